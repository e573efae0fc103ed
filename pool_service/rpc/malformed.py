"""Refuses requests that are not valid protobuf.

By default gRPC answers UNKNOWN with the parser's error text, and logs a traceback for each.
"""

import asyncio
import inspect
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import grpc
import structlog

from pool_service.core.errors import InvalidField
from pool_service.rpc.status import status_of

QUIET_S = 10.0
"""The shortest time between two log lines about malformed requests."""

MALFORMED: Final = object()
"""Stands for a request that could not be parsed."""

log = structlog.get_logger("pool_service.rpc")

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]


Wrap = Callable[[str, "grpc.RpcMethodHandler[Any, Any]"], "grpc.RpcMethodHandler[Any, Any]"]
"""Wraps the handler of a method ("SERVICE/METHOD")."""

AUTHORIZATION: Final = "authorization"
"""The key in a call's metadata of what the caller shows of itself."""

FLEET_CALL: Final = "pool-fleet-bin"
"""The key in a call's metadata of what a front says with the call."""

METADATA_KEYS: Final = frozenset({AUTHORIZATION, FLEET_CALL})
"""The keys in a call's metadata that handlers look for. Most calls have none of them, and get
handlers that do not look."""


class Registrar:
    """Registers services with a gRPC server so that malformed requests are refused.

    It has the methods of grpc.aio.Server that generated code calls, and adds each service as a
    generic handler: for each call that arrives, grpc.aio (1.85) waits anew for the next call of
    every method that is registered by its name, some 7 µs for the methods of this service.

    wraps: applied to the handlers that refuse malformed requests, the first one innermost.
    wraps_without: the same for calls without METADATA_KEYS in their metadata.
    """

    def __init__(
        self, server: grpc.aio.Server, wraps: Sequence[Wrap], wraps_without: Sequence[Wrap]
    ) -> None:
        self._server = server
        self._refusals = _Refusals()
        self._wraps = wraps
        self._wraps_without = wraps_without

    def add_generic_rpc_handlers(self, _handlers: object) -> None:
        """Do nothing: generated code adds every method by its name as well."""

    def add_registered_method_handlers(
        self, service: str, handlers: "Mapping[str, grpc.RpcMethodHandler[Any, Any]]"
    ) -> None:
        """Add the methods of a service, each with a parser that does not raise errors.

        Methods that a servicer does not override (the generated base has no coroutines) are left
        out; gRPC then answers UNIMPLEMENTED without a traceback.
        """
        refusing = {
            f"{service}/{name}": self._refusals.wrapped(f"{service}/{name}", handler)
            for name, handler in handlers.items()
            if _is_implemented(handler)
        }
        found = _Service(_wrapped(refusing, self._wraps), _wrapped(refusing, self._wraps_without))
        self._server.add_generic_rpc_handlers((found,))


_Handlers = Mapping[str, "grpc.RpcMethodHandler[Any, Any]"]


class _Service(grpc.GenericRpcHandler):
    """Finds the handlers of one service's methods, by their paths."""

    def __init__(self, handlers: _Handlers, handlers_without: _Handlers) -> None:
        """handlers_without: for calls without METADATA_KEYS in their metadata."""
        self._handlers = handlers
        self._handlers_without = handlers_without

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Return the handler of a call; None if it is of no method of this service."""
        for key, _ in handler_call_details.invocation_metadata:
            if key in METADATA_KEYS:
                return self._handlers.get(handler_call_details.method)
        return self._handlers_without.get(handler_call_details.method)


def _wrapped(handlers: _Handlers, wraps: Sequence[Wrap]) -> _Handlers:
    """Return handlers with their wraps, by the paths that gRPC names ("/SERVICE/METHOD")."""
    found = dict[str, "grpc.RpcMethodHandler[Any, Any]"]()
    for method, handler in handlers.items():
        wrapped = handler
        for wrap in wraps:
            wrapped = wrap(method, wrapped)
        found[f"/{method}"] = wrapped
    return found


class _Refusals:
    """Wraps methods so that they refuse malformed requests.

    A class of its own, so that the wrapped methods hold no reference to the server.
    """

    def __init__(self) -> None:
        self._log = _Log()

    def wrapped(self, method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":  # noqa: ANN401
        """Return a handler like `handler` that refuses malformed requests of `method`."""
        coders = {
            "request_deserializer": _parser(handler.request_deserializer),
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming:
            stream = self._stream(method, handler.stream_stream)
            return grpc.stream_stream_rpc_method_handler(stream, **coders)
        if handler.response_streaming:
            many = self._one_request(method, handler.unary_stream)
            return grpc.unary_stream_rpc_method_handler(many, **coders)
        one = self._one_request(method, handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(one, **coders)

    def _one_request(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def checked(request: object, context: Context) -> object:
            if request is MALFORMED:
                await self._refuse(method, context)
            return await behaviour(request, context)

        return checked

    def _stream(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def checked(requests: AsyncIterator[object], context: Context) -> AsyncGenerator[Any]:
            async with aclosing(behaviour(parsed(requests, context), context)) as responses:
                async for response in responses:
                    yield response

        async def parsed(
            requests: AsyncIterator[object], context: Context
        ) -> AsyncGenerator[object]:
            async for request in requests:
                if request is MALFORMED:
                    await self._refuse(method, context)
                yield request

        return checked

    async def _refuse(self, method: str, context: Context) -> None:
        self._log.note(method)
        await context.abort_with_status(_STATUS)


_STATUS = status_of(
    InvalidField(
        "the request is no valid protobuf message of this call. Generate the stubs of your client "
        "from the service's proto file, and send its bytes unchanged.",
        field_name="request",
    )
)


class _Log:
    """Logs malformed requests, at most every QUIET_S, with their number since the last line."""

    def __init__(self) -> None:
        self._logged_at = -math.inf
        self._unlogged = 0

    def note(self, method: str) -> None:
        """Count a malformed request, and log it unless one was logged just now."""
        self._unlogged += 1
        now = asyncio.get_running_loop().time()
        if now - self._logged_at < QUIET_S:
            return
        log.warning("malformed request refused", method=method, requests=self._unlogged)
        self._logged_at, self._unlogged = now, 0


def _is_implemented(handler: Any) -> bool:  # noqa: ANN401
    behaviours = (handler.unary_unary, handler.unary_stream, handler.stream_stream)
    return any(map(inspect.iscoroutinefunction, behaviours)) or any(
        map(inspect.isasyncgenfunction, behaviours)
    )


def _parser(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
    def parsed(raw: bytes) -> object:
        try:
            return parse(raw)
        except Exception:  # noqa: BLE001  # whatever the parser raises, the bytes are the cause
            return MALFORMED

    return parsed
