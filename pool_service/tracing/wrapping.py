"""Wrapping of handlers, so that each call has a span under the span of its caller."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.rpc import error_details_pb2, status_pb2

from pool_service.rpc.malformed import Wrap
from pool_service.tracing.call_spans import Call, CallSpans, Outcome

TRACED = frozenset(
    f"pool_service.v1.PoolService/{method}" for method in ("Ensure", "Hold", "Evict", "Pull")
)
"""The methods whose calls can take long: only these have spans."""

log = structlog.get_logger("pool_service.tracing")

_DETAILS_KEY = "grpc-status-details-bin"

Context = grpc.aio.ServicerContext[Any, Any]


def tracing(calls: CallSpans) -> Wrap:
    """Return what wraps handlers so that `calls` receives the calls of TRACED methods."""

    def wrap(method: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":  # noqa: ANN401
        coders = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if method not in TRACED:
            wrapped: grpc.RpcMethodHandler[Any, Any] = handler
        elif handler.response_streaming:
            many = _traced(calls, method, handler.unary_stream)
            wrapped = grpc.unary_stream_rpc_method_handler(many, **coders)
        else:
            one = _traced(calls, method, handler.unary_unary)
            wrapped = grpc.unary_unary_rpc_method_handler(one, **coders)
        return wrapped

    return wrap


def _traced(calls: CallSpans, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def traced(request: object, context: Context) -> object:
        call = _begin(calls, method, request, context)
        error: BaseException | None = None
        try:
            return await behaviour(request, context)
        except BaseException as raised:
            error = raised
            raise
        finally:
            if call is not None:
                _end(calls, call, error, context)

    return traced


def _begin(calls: CallSpans, method: str, request: object, context: Context) -> Call | None:
    """Return the call as it begins; None if tracing fails, which is no failure of the call."""
    try:
        return calls.begin(method, _model_of(request), _text_in(context.invocation_metadata()))
    except Exception:
        log.exception("a call could not be traced", method=method)
        return None


def _end(calls: CallSpans, call: Call, error: BaseException | None, context: Context) -> None:
    try:
        calls.end(call, _outcome(error, context))
    except Exception:
        log.exception("a call could not be traced", method=call.method)


def _outcome(error: BaseException | None, context: Context) -> Outcome:
    if error is None:
        return Outcome(grpc.StatusCode.OK.name)
    if isinstance(error, asyncio.CancelledError):
        return Outcome(grpc.StatusCode.CANCELLED.name)
    if isinstance(error, grpc.aio.AbortError):
        return _failure(context)
    return Outcome(grpc.StatusCode.UNKNOWN.name)


def _text_in(metadata: Any) -> dict[str, str]:  # noqa: ANN401  # gRPC's own type, or a tuple
    """Return the metadata that is text; a key that is there twice has its last value."""
    return {key: value for key, value in metadata or () if isinstance(value, str)}


def _model_of(request: object) -> str:
    model = getattr(request, "model", "")
    return model if isinstance(model, str) else ""


def _failure(context: Context) -> Outcome:
    """Return the outcome of an aborted call, with the reason of its error."""
    code: object = context.code()  # a number, against its type, after abort_with_status
    name = code.name if isinstance(code, grpc.StatusCode) else _name_of(code)
    for key, value in context.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            return Outcome(name, _reason_in(value))
    return Outcome(name)


def _name_of(code: object) -> str:
    return next((each.name for each in grpc.StatusCode if each.value[0] == code), "UNKNOWN")


def _reason_in(details: bytes) -> str:
    info = error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Unpack(info):
            return info.reason
    return ""
