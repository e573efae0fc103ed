"""Traces of requests: each has a span in its caller's trace, which goes on in the service.

Without a provider there are no spans, and the caller's own is handed on.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http import HTTPStatus

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pool_service.gateway.outcome import GONE, Outcome

_TRACEPARENT = "traceparent"
_TRACESTATE = "tracestate"
_PROPAGATOR = TraceContextTextMapPropagator()
_UNTRACED = nullcontext()


class RequestTraces:
    """Makes the spans of requests.

    What a request does in their context is a part of its trace: the client of the service tells the
    service of it.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        # It logs a malformed header with its content, which is a caller's.
        logging.getLogger("opentelemetry.trace").setLevel(logging.ERROR)
        self._tracer = provider.get_tracer("pool_service.gateway") if provider else None

    def request(self, request: web.Request, outcome: Outcome) -> AbstractContextManager[None]:
        """Return a context in which a request is answered. outcome: what came of it, at the end."""
        if self._tracer is not None:
            return self._spanned(request, outcome)
        return _in_the_trace_of(request) if _TRACEPARENT in request.headers else _UNTRACED

    def waiting(self) -> AbstractContextManager[object]:
        """Return a context in which a request waits for its model."""
        if self._tracer is None:
            return _UNTRACED
        # The span of the request says how that ended; the error's text may quote logs.
        return self._tracer.start_as_current_span(
            "wait for the model", record_exception=False, set_status_on_exception=False
        )

    def hand_on(self, headers: CIMultiDict[str]) -> None:
        """Put the request's span in the place of its caller's in the headers for the server."""
        if self._tracer is not None:
            headers.popall(_TRACEPARENT, None)
            headers.popall(_TRACESTATE, None)
            _PROPAGATOR.inject(headers)

    @contextmanager
    def _spanned(self, request: web.Request, outcome: Outcome) -> Iterator[None]:
        assert self._tracer is not None
        parent = _trace_of(request)
        span = self._tracer.start_span(
            f"{request.method} {request.path}",
            context=parent,
            kind=SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "http.route": request.path,
                "url.path": request.path,
                "url.scheme": request.scheme,
            },
        )
        token = context.attach(trace.set_span_in_context(span, parent))
        try:
            yield
        finally:
            context.detach(token)
            _end(span, outcome)


class _Headers(Getter["CIMultiDictProxy[str]"]):
    """Reads the headers of a request, each of which can be there several times."""

    def get(self, carrier: "CIMultiDictProxy[str]", key: str) -> list[str] | None:
        """Return the values of a header. Two parents are none, by the W3C's standard."""
        values = carrier.getall(key, [])
        return None if not values or (key == _TRACEPARENT and len(values) > 1) else values

    def keys(self, carrier: "CIMultiDictProxy[str]") -> list[str]:
        """Return the names of all headers."""
        return list(carrier)


_HEADERS = _Headers()


def _trace_of(request: web.Request) -> Context:
    """Return the trace that a request says to be part of; an empty one if it names none."""
    return _PROPAGATOR.extract(request.headers, Context(), _HEADERS)


@contextmanager
def _in_the_trace_of(request: web.Request) -> Iterator[None]:
    token = context.attach(_trace_of(request))
    try:
        yield
    finally:
        context.detach(token)


def _end(span: Span, outcome: Outcome) -> None:
    """End the span of a request, by OpenTelemetry's conventions for HTTP and generative AI."""
    status = int(outcome.status)
    span.set_attribute("http.response.status_code", status)
    if outcome.model:
        # Only then: what is no name may be anything, such as a prompt.
        span.set_attribute("gen_ai.request.model", outcome.requested_model)
        span.set_attribute("pool.model", outcome.model)
    if outcome.tokens:
        span.set_attribute("gen_ai.usage.output_tokens", outcome.tokens)
    if outcome.first_byte_s is not None:
        span.set_attribute("pool.first_byte_s", outcome.first_byte_s)
    if status >= HTTPStatus.BAD_REQUEST:
        span.set_attribute("error.type", "caller gone" if status == GONE else str(status))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        span.set_status(Status(StatusCode.ERROR))
    span.end()
