"""Calls of the pool service with requests and responses as JSON, as the page makes them.

The handlers are those of gRPC, with the same checks, errors and reasons. Answers are without keys
of servers, since the page makes no requests to them.
"""

import asyncio
import inspect
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from pool_service.access.fleet import OUTSIDE, FleetCall
from pool_service.access.principal import Principal
from pool_service.core.errors import InvalidField
from pool_service.event_records import Call
from pool_service.rpc.redaction import redacted, without_key
from pool_service.rpc.status import reason_of
from pool_service.v1 import pool_service_pb2 as pb

if TYPE_CHECKING:
    from pool_service.rpc.call_context import CallContext

UNARY = frozenset({"Describe", "Ensure", "Evict", "ListModels", "Pin"})
"""The methods with one response."""

STREAMS = frozenset({"TailLogs", "Watch"})
"""The methods with a stream of responses."""

MAX_PAGE_SIZE = 50
"""Models of one response: a thousand as JSON would hold up all other calls for half a second."""

_METHODS = pb.DESCRIPTOR.services_by_name["PoolService"].methods_by_name


@dataclass(slots=True)
class CallFailed(Exception):
    """A call that failed. code: the name of the gRPC status; reason: of the error, or empty."""

    code: str
    reason: str
    message: str

    def as_json(self) -> str:
        """Return the error as a JSON object."""
        return json.dumps({"code": self.code, "reason": self.reason, "message": self.message})


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller that came by HTTP, in the place of a call's context."""

    address: str
    principal: Principal
    fleet: FleetCall = OUTSIDE

    def peer(self) -> str:
        """Return the address as it is kept with what the caller changes."""
        return self.address

    def time_remaining(self) -> float | None:
        """Return None: the call has no deadline."""


class Servicer(Protocol):
    """Has the handlers of PoolService, decorated by `unary` and `streaming`."""

    def called(self, method: str, request: object, context: "CallContext") -> Call:
        """Return a call as it is kept."""

    def refuse(self, error: Exception, call: Call, principal: Principal) -> grpc.Status:
        """Return the status of a failed call, and keep the call if that is to be."""

    def abandon(self, call: Call) -> None:
        """Keep a call that was cancelled, if that is to be."""


class JsonCalls:
    """Make calls of one servicer."""

    def __init__(self, servicer: Servicer) -> None:
        self._servicer = servicer

    async def unary(self, method: str, text: bytes, caller: Caller) -> str:
        """Return the response of a method of UNARY. text: the request. Raises CallFailed."""
        request = _empty_request(method)
        try:
            _parse(text, request)
            if isinstance(request, pb.ListModelsRequest):
                request.page_size = min(request.page_size or MAX_PAGE_SIZE, MAX_PAGE_SIZE)
            handler: Callable[..., Awaitable[Message]] = self._handler(method)
            response = await handler(self._servicer, request, caller)
            return json_of(without_key(redacted(response, caller.principal)))
        except asyncio.CancelledError:
            self._servicer.abandon(self._call(method, request, caller))
            raise
        except Exception as error:
            raise self._failed(error, method, request, caller) from error

    async def stream(self, method: str, text: bytes, caller: Caller) -> AsyncGenerator[str]:
        """Yield the responses of a method of STREAMS, each as a line.

        The last line is `{"error": {...}}` if the stream fails, since its status is sent by then.
        """
        request = _empty_request(method)
        try:
            _parse(text, request)
            handler: Callable[..., AsyncGenerator[Message]] = self._handler(method)
            async with aclosing(handler(self._servicer, request, caller)) as responses:
                async for response in responses:
                    yield json_of(redacted(response, caller.principal)) + "\n"
                    # A short line is sent at once; 500 of them must not hold up other calls.
                    await asyncio.sleep(0)
        except Exception as error:  # noqa: BLE001  # raw texts must not reach the caller
            failed = self._failed(error, method, request, caller)
            yield f'{{"error": {failed.as_json()}}}\n'

    def _call(self, method: str, request: Message, caller: Caller) -> Call:
        return self._servicer.called(method, request, cast("CallContext", caller))

    def _failed(
        self, error: Exception, method: str, request: Message, caller: Caller
    ) -> CallFailed:
        call = self._call(method, request, caller)
        status = self._servicer.refuse(error, call, caller.principal)
        return CallFailed(status.code.name, reason_of(status), status.details)

    def _handler(self, method: str) -> Any:  # noqa: ANN401  # by the kind of method
        """Return a method of the servicer without what makes its errors gRPC's."""
        return inspect.unwrap(getattr(type(self._servicer), method))


def _empty_request(method: str) -> Message:
    message: Message = getattr(pb, _METHODS[method].input_type.name)()
    return message


def _parse(text: bytes, message: Message) -> None:
    """Fill a message from JSON. Raises InvalidField."""
    try:
        json_format.Parse(text or b"{}", message)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidField(
            f"the request is no JSON of {message.DESCRIPTOR.name}: {error}. Correct it.",
            field_name="request",
        ) from error


def json_of(message: Message) -> str:
    """Return a message as JSON, with the names of the proto file and all numbers."""
    return json_format.MessageToJson(
        message,
        indent=None,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
