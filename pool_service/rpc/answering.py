"""Decorators of handlers: errors become statuses, and answers are redacted for their callers.

The decorators are for methods of the servicer: they call its `called`, `refuse` and `abandon`, and
use its `redactions`.
"""

import asyncio
import functools
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, TypeVar, cast

import grpc
import structlog
from google.protobuf.message import Message

from pool_service.audit import Audit
from pool_service.core.errors import PoolError
from pool_service.event_records import Call
from pool_service.rpc.call_context import CallContext
from pool_service.rpc.redaction import redacted
from pool_service.rpc.status import internal_status, status_of

log = structlog.get_logger("pool_service.rpc")

Request = TypeVar("Request")
Response = TypeVar("Response", bound=Message)
Context = CallContext
AnyContext = CallContext | grpc.aio.ServicerContext[Any, Any]


def failure_status(error: Exception, method: str) -> grpc.Status:
    """Return an error's status: in full for the pool's errors; others are INTERNAL and logged."""
    if isinstance(error, PoolError) and type(error) is not PoolError:
        return status_of(error)
    request_id = secrets.token_hex(8)
    log.error("internal error in a call", method=method, request_id=request_id, exc_info=error)
    return internal_status(request_id)


def keep_refusal(audit: Audit, call: Call, error: Exception) -> grpc.Status:
    """Keep a call that failed; return the status of the failure."""
    status = failure_status(error, call.method)
    reason = error.reason if isinstance(error, PoolError) else PoolError.REASON
    audit.refused(call, status.code.name, reason, status.details)
    return status


def unary(
    method: Callable[[Any, Request, Context], Awaitable[Response]],
) -> Callable[[Any, Request, Context], Awaitable[Response]]:
    """Decorate a handler with one response, so that its errors become statuses with details."""

    @functools.wraps(method)
    async def answered(self: Any, request: Request, context: Context) -> Response:  # noqa: ANN401
        try:
            response = await method(self, request, context)
            principal = context.principal
            # As in `redactions`; a call less for the caller that is most frequent.
            return response if principal.sees_all else self.redactions.of(response, principal)
        except asyncio.CancelledError:
            self.abandon(self.called(method.__name__, request, context))
            raise
        except Exception as error:  # noqa: BLE001  # raw texts must not reach the caller
            call = self.called(method.__name__, request, context)
            status = self.refuse(error, call, context.principal)
        return await abort(context, status)

    return answered


async def abort(context: AnyContext, status: grpc.Status) -> NoReturn:
    """End the call with this status, or silently if the client is gone."""
    try:
        await context.abort_with_status(status)
    except grpc.aio.AbortError:
        raise
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


async def _write(context: Context, response: object) -> None:
    """Send one response of a stream; end the call silently if the client is gone.

    The deadline may have passed, or the connection be lost, before gRPC cancels the call.
    """
    try:
        await context.write(response)
    except grpc.aio.BaseError:
        raise asyncio.CancelledError from None


def streaming(
    method: Callable[[Any, Request, Context], AsyncGenerator[Response]],
) -> Callable[[Any, Request, Context], AsyncIterator[Response]]:
    """Decorate a handler with a stream of responses as `unary` does.

    The decorator writes the responses itself, so that the generator is closed as soon as the
    client is gone.
    """

    @functools.wraps(method)
    async def answered(
        self: Any,  # noqa: ANN401
        request: Request,
        context: Context,
    ) -> None:
        try:
            async with aclosing(method(self, request, context)) as responses:
                async for response in responses:
                    await _write(context, redacted(response, context.principal))
        except asyncio.CancelledError:
            self.abandon(self.called(method.__name__, request, context))
            raise
        except Exception as error:  # noqa: BLE001  # raw texts must not reach the caller
            call = self.called(method.__name__, request, context)
            status = self.refuse(error, call, context.principal)
        else:
            return
        await abort(context, status)

    # grpc.aio accepts a coroutine that writes as well, which its types lack.
    return cast("Callable[[Any, Request, Context], AsyncIterator[Response]]", answered)
