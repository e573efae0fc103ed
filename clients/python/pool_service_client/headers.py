"""Headers that a client adds to each of its calls."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

Metadata = tuple[tuple[str, str], ...]
"""Headers of a call."""

HeadersSource = Callable[[], Metadata]
"""Returns the headers to add to a call that begins now. Its repr contains no secret."""

C = TypeVar("C")


def with_headers(channel: C, source: HeadersSource) -> C:
    """Return a channel of grpc or of grpc.aio that adds headers to each of its calls.

    source: called when a call begins.
    """
    return cast("C", _Channel(channel, source))


def trace_headers() -> Metadata:
    """Return the W3C trace headers of OpenTelemetry's active span; none without such a span.

    A program that has not imported OpenTelemetry has no active span.
    """
    trace = sys.modules.get("opentelemetry.trace")
    # Another thread may be importing it just now.
    current = getattr(trace, "get_current_span", None)
    if current is None or not current().get_span_context().is_valid:
        return ()
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    found: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(found)
    return tuple(found.items())


class _Channel:
    """The methods of a channel that a client and its stub use, with further headers in each call.

    gRPC for Python refuses call credentials on connections that are not encrypted, and with
    interceptors grpc.aio makes calls of another, slower kind.
    """

    def __init__(self, channel: Any, source: HeadersSource) -> None:  # noqa: ANN401 - of grpc or grpc.aio
        self._channel = channel
        self._source = source

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        return self._call(self._channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:  # noqa: ANN401
        return self._call(self._channel.unary_stream(*arguments, **options))

    def close(self) -> Any:  # noqa: ANN401 - grpc.aio's is to be awaited
        return self._channel.close()

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        call: Any = self._with_headers(method)
        # Only methods with one response, for threads, have it.
        begin = getattr(method, "future", None)
        if begin is not None:
            call.future = self._with_headers(begin)
        return cast("Callable[..., Any]", call)

    def _with_headers(self, method: Callable[..., Any]) -> Callable[..., Any]:
        source = self._source

        def call(request: object, timeout: float | None = None, metadata: Metadata = ()) -> Any:  # noqa: ANN401
            return method(request, timeout=timeout, metadata=metadata + source())

        return call
