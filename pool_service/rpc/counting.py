"""Counting of calls: wraps the handlers of a service, so that without it a call costs no more."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Protocol

import grpc

from pool_service.rpc.malformed import Wrap

Context = grpc.aio.ServicerContext[Any, Any]

CODES = {code.value[0]: code.name for code in grpc.StatusCode}
"""The names of the status codes by their numbers."""


class CallCounts(Protocol):
    """Receives the calls. `method` is without its service; `code` the name of a gRPC status."""

    def end(self, method: str, code: str, seconds: float) -> None:
        """Count a call with one response."""

    def open_stream(self, method: str) -> None:
        """Count a stream as open."""

    def close_stream(self, method: str, code: str) -> None:
        """Count the end of a stream."""


def counting(counts: CallCounts, service: str) -> Wrap:
    """Return what wraps handlers so that `counts` receives the calls of one service."""

    def wrap(path: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":  # noqa: ANN401
        owner, _, method = path.rpartition("/")
        coders = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if owner != service:
            counted: grpc.RpcMethodHandler[Any, Any] = handler
        elif handler.response_streaming:
            many = _stream(counts, method, handler.unary_stream)
            counted = grpc.unary_stream_rpc_method_handler(many, **coders)
        else:
            one = _unary(counts, method, handler.unary_unary)
            counted = grpc.unary_unary_rpc_method_handler(one, **coders)
        return counted

    return wrap


def _unary(counts: CallCounts, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def counted(request: object, context: Context) -> object:
        began = perf_counter()
        try:
            response = await behaviour(request, context)
        except BaseException as error:
            counts.end(method, _code_of(error, context), perf_counter() - began)
            raise
        counts.end(method, "OK", perf_counter() - began)
        return response

    return counted


def _stream(counts: CallCounts, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Any:  # noqa: ANN401
    async def counted(request: object, context: Context) -> None:
        counts.open_stream(method)
        try:
            await behaviour(request, context)
        except BaseException as error:
            counts.close_stream(method, _code_of(error, context))
            raise
        counts.close_stream(method, "OK")

    return counted


def _code_of(error: BaseException, context: Context) -> str:
    """Return the status with which a call ends that has raised an error."""
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED.name
    # Set by the abort; any other error becomes UNKNOWN.
    code = context.code()
    number = code if isinstance(code, int) else code.value[0]
    return CODES.get(number, grpc.StatusCode.UNKNOWN.name) if number else "UNKNOWN"
