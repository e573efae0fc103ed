"""Export of spans by OTLP over HTTP, in a thread of its own that holds up nothing.

While a collector is away, spans are dropped, and the log says so once.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

CLOSE_S = 1.0
"""The time for the last spans to be sent when the service ends."""

TRACES_PATH = "/v1/traces"

QUIET_S = 600.0
"""The shortest time between two log lines of a kind."""

log = structlog.get_logger("pool_service.tracing")


class _Reporting(SpanExporter):
    """Export by another exporter; log when it begins to fail and when it works again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export spans; never raises."""
        try:
            result = self._exporter.export(spans)
        except Exception:  # noqa: BLE001  # whatever the network or the library raises
            result = SpanExportResult.FAILURE
        fails = result is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning("traces cannot be sent and are dropped; is the collector there?")
        elif self._fails and not fails:
            log.info("traces are sent again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """Give up a request in progress."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what the exporter still has."""
        return self._exporter.force_flush(timeout_millis)


class _Sparing(logging.Handler):
    """Log each kind of line of the library at most once in QUIET_S; it repeats them per batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._logged_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Log a line, unless one of its kind was logged a short time ago."""
        now = time.monotonic()
        if now - self._logged_at.get(record.msg, -QUIET_S) >= QUIET_S:
            self._logged_at[record.msg] = now
            log.warning("from the library for traces", says=record.getMessage())


def provider_of(endpoint: str, name: str, version: str) -> TracerProvider:
    """Return the provider of tracers whose spans are sent to a collector.

    endpoint: the collector's URL without TRACES_PATH; empty: as the variables OTEL_EXPORTER_OTLP_*
    say. name, version: of the program.
    """
    library = logging.getLogger("opentelemetry")
    library.propagate = False
    library.handlers = [_Sparing()]
    # It logs a malformed header with its content, which is a caller's.
    logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
    url = endpoint.rstrip("/") + TRACES_PATH if endpoint else None
    resource = Resource.create({"service.version": version} | _name(name))
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(_Reporting(OTLPSpanExporter(url))))
    return provider


def _name(name: str) -> dict[str, str]:
    """Return the program's name, unless the standard variables have another one."""
    own = os.environ.get("OTEL_SERVICE_NAME")
    is_set = own or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {} if is_set else {"service.name": name}


def close(provider: TracerProvider) -> Callable[[], None]:
    """Begin to send the last spans; return a function that waits until they are sent.

    The function waits up to CLOSE_S after this call; spans that are not sent then are dropped.
    """
    deadline = time.monotonic() + CLOSE_S
    # A daemon: the process must not wait for a collector that is away.
    sending = threading.Thread(target=provider.shutdown, name="last traces", daemon=True)
    sending.start()

    def wait() -> None:
        sending.join(max(0.0, deadline - time.monotonic()))
        if sending.is_alive():
            log.warning("the last traces could not be sent in time")

    return wait
