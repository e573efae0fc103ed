"""Composition of the traces of one service: spans of calls, and spans of starts."""

from collections.abc import Callable

from opentelemetry.sdk.trace import TracerProvider

from pool_service.core.commands import Publish
from pool_service.tracing import exporting
from pool_service.tracing.call_spans import CallSpans
from pool_service.tracing.start_spans import StartSpans
from pool_service.tracing.wrapping import tracing


class Traces:
    """The traces of one service.

    provider: of the tracer that makes the spans.
    resolve: returns the model that a caller's name means.
    """

    def __init__(self, provider: TracerProvider, resolve: Callable[[str], str]) -> None:
        self._provider = provider
        tracer = provider.get_tracer("pool_service")
        calls = CallSpans(tracer, resolve)
        self._starts = StartSpans(tracer, calls)
        self.wrap = tracing(calls)
        """For the gRPC server."""

    def observe(self, change: Publish) -> None:
        """Receive a change of a server; for the pool."""
        self._starts.observe(change)

    def close(self) -> Callable[[], None]:
        """End the open spans of starts and send the last spans; see `exporting.close`."""
        self._starts.close()
        return exporting.close(self._provider)
