"""The gateway's metrics, in the form of Prometheus."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

MAX_MODELS = 200
"""The most models with labels of their own; further ones count together."""

OTHERS = "others"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Counts:
    """Counts requests by model and path. A model counts under its own name once it was served."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._models: set[str] = set()
        self._requests = Counter(
            "pool_gateway_requests",
            "Requests that have ended, by the status that their callers got.",
            ("model", "path", "code"),
            registry=self._registry,
        )
        self._first_bytes = Histogram(
            "pool_gateway_first_byte_seconds",
            "Time from a request to the first byte of its model's answer, starts included.",
            ("model", "path"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "pool_gateway_in_flight_requests",
            "Requests that are being answered, or wait for their model.",
            registry=self._registry,
        )
        self._sent_bytes = Counter(
            "pool_gateway_sent_bytes",
            "Bytes of models' answers that were handed on.",
            ("model",),
            registry=self._registry,
        )

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """Return a context in which a request counts as in flight."""
        with self._in_flight.track_inprogress():
            yield

    def end(self, model: str, path: str, code: int, first_byte_s: float | None, sent: int) -> None:
        """Count a request that has ended.

        model: the model's name; "": none was served. first_byte_s: None: no byte of an answer came.
        sent: the answer's bytes.
        """
        label = self._label(model)
        self._requests.labels(label, path, str(code)).inc()
        if first_byte_s is not None:
            self._first_bytes.labels(label, path).observe(first_byte_s)
        if sent:
            self._sent_bytes.labels(label).inc(sent)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def _label(self, model: str) -> str:
        if model in self._models or not model:
            return model
        if len(self._models) >= MAX_MODELS:
            return OTHERS
        self._models.add(model)
        return model
