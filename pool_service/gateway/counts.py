"""The gateway's metrics, in the form of Prometheus."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client as prometheus
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from pool_service.gateway.outcome import Outcome

MAX_MODELS = 200
"""The most models with labels of their own; further ones count together."""

OTHERS = "others"

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

CONTENT_TYPE = CONTENT_TYPE_LATEST


class Counts:
    """Counts requests by model and path. A model counts under its own name once it was served."""

    def __init__(self) -> None:
        self._registry = prometheus.CollectorRegistry()
        self._models: set[str] = set()
        self._open: set[Outcome] = set()
        self._requests = prometheus.Counter(
            "pool_gateway_requests",
            "Requests that have ended, by the status that their callers got.",
            ("model", "path", "code"),
            registry=self._registry,
        )
        self._first_bytes = prometheus.Histogram(
            "pool_gateway_first_byte_seconds",
            "Time from a request to the first byte of its model's answer, starts included.",
            ("model", "path"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._in_flight = prometheus.Gauge(
            "pool_gateway_in_flight_requests",
            "Requests that are being answered, or wait for their model (under no model's name).",
            ("model",),
            registry=self._registry,
        )
        self._sent_bytes = prometheus.Counter(
            "pool_gateway_sent_bytes",
            "Bytes of models' answers that were handed on.",
            ("model",),
            registry=self._registry,
        )
        self._tokens = prometheus.Counter(
            "pool_gateway_output_tokens",
            "Tokens of models' answers as their servers count them, else events of streams.",
            ("model",),
            registry=self._registry,
        )

    @contextmanager
    def in_flight(self, outcome: Outcome) -> Iterator[None]:
        """Return a context in which a request counts as in flight."""
        self._open.add(outcome)
        try:
            yield
        finally:
            self._open.remove(outcome)

    def end(self, path: str, outcome: Outcome) -> None:
        """Count a request that has ended."""
        label = self._label(outcome.model)
        self._requests.labels(label, path, str(int(outcome.status))).inc()
        if outcome.first_byte_s is not None:
            self._first_bytes.labels(label, path).observe(outcome.first_byte_s)
        if outcome.sent_bytes:
            self._sent_bytes.labels(label).inc(outcome.sent_bytes)
        if outcome.tokens:
            self._tokens.labels(label).inc(outcome.tokens)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        numbers = Counter(self._label(outcome.model) for outcome in self._open)
        for label in ("", *self._models, *numbers):
            self._in_flight.labels(label).set(numbers[label])
        return prometheus.generate_latest(self._registry)

    def _label(self, model: str) -> str:
        if model in self._models or not model:
            return model
        if len(self._models) >= MAX_MODELS:
            return OTHERS
        self._models.add(model)
        return model
