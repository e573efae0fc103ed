"""Spans of calls.

An Ensure or a Hold has a span only if it waited, failed, or was sampled by its caller: a warm
Ensure whose caller samples nothing makes none. Every other call has one.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pool_service.core.names import model_flaw

WAITING = frozenset({"pool_service.v1.PoolService/Ensure", "pool_service.v1.PoolService/Hold"})
"""The methods whose calls wait for a start."""

SERVER_ERRORS = frozenset(
    {"DATA_LOSS", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "UNIMPLEMENTED", "UNKNOWN"}
)
"""The codes that make the span of a server an error, by OpenTelemetry's conventions for gRPC."""

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True, eq=False)
class Call:
    """A call under way.

    method: the full name of the method, without a leading slash.
    model: the model as the pool names it; empty if the call is for no single model, or if what it
    names can be no model.
    began_ns: the wall clock in nanoseconds.
    parent: the caller's span; None: the caller sent none.
    waits: the call waits for a start of its model, or may come to do so.
    span: the span of this call, once there is a need for one.
    """

    method: str
    model: str
    began_ns: int
    parent: Context | None
    waits: bool
    span: Span | None = None
    links: list[Link] = field(default_factory=list)

    @property
    def is_sampled(self) -> bool:
        """Whether the caller records the trace that this call belongs to."""
        if self.parent is None:
            return False
        return trace.get_current_span(self.parent).get_span_context().trace_flags.sampled


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a call. code: the name of the gRPC status; reason: of the error, empty if none."""

    code: str
    reason: str = ""


class CallSpans:
    """Keep the calls under way, and make their spans.

    resolve: returns the model that a caller's name means.
    """

    def __init__(self, tracer: Tracer, resolve: Callable[[str], str]) -> None:
        self._tracer = tracer
        self._resolve = resolve
        self._open: dict[str, list[Call]] = {}

    def begin(self, method: str, model: str, headers: dict[str, str]) -> Call:
        """Return a call that begins now; headers: its metadata, as text."""
        parent = _PROPAGATOR.extract(headers) if "traceparent" in headers else None
        # What is no name may be anything, such as a prompt.
        name = "" if model_flaw(model) else self._resolve(model)
        call = Call(method, name, time.time_ns(), parent, waits=method in WAITING)
        self._open.setdefault(name, []).append(call)
        return call

    def waiting(self, model: str) -> Iterator[Call]:
        """Yield the calls that wait for a start of a model, the oldest first."""
        return (call for call in self._open.get(model, ()) if call.waits)

    def span_of(self, call: Call) -> Span:
        """Return the span of a call; make it if there is none yet."""
        if call.span is None:
            call.span = self._tracer.start_span(
                call.method,
                context=call.parent or Context(),
                kind=SpanKind.SERVER,
                start_time=call.began_ns,
                attributes={"rpc.system.name": "grpc", "rpc.method": call.method},
            )
            if call.model:
                call.span.set_attribute("pool.model", call.model)
        return call.span

    def end(self, call: Call, outcome: Outcome) -> None:
        """End a call and its span, if it has one or needs one."""
        open_calls = self._open[call.model]
        open_calls.remove(call)
        if not open_calls:
            del self._open[call.model]
        failed = outcome.code not in {"OK", "CANCELLED"}
        is_quiet = call.method in WAITING and not (failed or call.links or call.is_sampled)
        if call.span is None and is_quiet:
            return
        span = self.span_of(call)
        for link in call.links:
            span.add_link(link.context, link.attributes)
        span.set_attribute("rpc.response.status_code", outcome.code)
        if failed:
            span.set_attribute("error.type", outcome.reason or outcome.code)
        if outcome.code in SERVER_ERRORS:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
