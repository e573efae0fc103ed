"""Spans of starts, made from the changes of servers that the pool publishes.

A start is a child of the oldest call that waits for its model, and every other call that waits has
a link to it. A start without a caller, as at the start of the service, is a trace of its own.
"""

import time
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, Status, StatusCode, Tracer

from pool_service.core.commands import Publish
from pool_service.core.server import NOT_BEGUN, Phase, Role, Server, ServerId
from pool_service.tracing.call_spans import Call, CallSpans

STAGES = {
    Phase.QUEUED: "queue",
    Phase.BACKING_OFF: "back off",
    Phase.PREPARING: "prepare",
    Phase.SPAWNING: "spawn",
    Phase.STARTING: "load",
}
"""The name of the span of each phase of a start."""

STARTS_KEPT = 1024
"""The most starts that are followed at a time; beyond that the oldest has no spans."""

STOPS_KEPT = 256
"""The number of finished stops for other models that are kept until those models' turn."""


@dataclass(slots=True)
class _Start:
    """A start under way.

    cause: the call that it belongs to; None: no caller waited for it.
    stage: the span of its present phase; download: of its download, while there is one.
    detail: what the server last said of its phase.
    """

    span: Span
    cause: Call | None
    phase: Phase
    stage: Span
    began_ns: int
    download: Span | None = None
    detail: str = ""


@dataclass(slots=True)
class _Stop:
    """The stop of a server for another model, in nanoseconds of the wall clock."""

    preemptor: str
    began_ns: int
    ended_ns: int = 0


@dataclass(slots=True)
class _Stops:
    """The stops for other models, by server."""

    by_id: dict[ServerId, _Stop] = field(default_factory=dict)

    def observe(self, change: Publish, now_ns: int) -> None:
        """Note that a server is stopping for another model, or has ended."""
        server = change.server
        if change.preemptor is not None and server.id not in self.by_id:
            self.by_id[server.id] = _Stop(change.preemptor.model, now_ns)
            if len(self.by_id) > STOPS_KEPT:
                del self.by_id[next(iter(self.by_id))]
        stop = self.by_id.get(server.id)
        if stop is not None and (change.removed or server.phase is Phase.FAILED):
            stop.ended_ns = stop.ended_ns or now_ns


class StartSpans:
    """Make the spans of starts. `observe` receives every change that the pool publishes."""

    def __init__(self, tracer: Tracer, calls: CallSpans) -> None:
        self._tracer = tracer
        self._calls = calls
        self._starts: dict[ServerId, _Start] = {}
        self._stops = _Stops()

    def observe(self, change: Publish) -> None:
        """Make, go on with or end the spans that a change concerns."""
        server, now_ns = change.server, time.time_ns()
        self._stops.observe(change, now_ns)
        start = self._starts.get(server.id)
        if start is not None:
            self._go_on(start, server, now_ns, removed=change.removed)
        elif not change.removed and server.phase in NOT_BEGUN | {Phase.PREPARING}:
            self._begin(server, now_ns)

    def _begin(self, server: Server, now_ns: int) -> None:
        calls = list(self._calls.waiting(server.model)) if server.role is Role.CURRENT else []
        cause = calls[0] if calls else None
        parent = trace.set_span_in_context(self._calls.span_of(cause)) if cause else Context()
        span = self._tracer.start_span(
            "start",
            context=parent,
            start_time=now_ns,
            attributes={
                "pool.model": server.model,
                "pool.runtime_model": server.settings.runtime_model,
                "pool.generation": server.generation,
            },
        )
        stage = self._stage(span, server, now_ns)
        self._starts[server.id] = _Start(span, cause, server.phase, stage, now_ns)
        if len(self._starts) > STARTS_KEPT:
            del self._starts[next(iter(self._starts))]

    def _stage(self, span: Span, server: Server, now_ns: int) -> Span:
        return self._child(STAGES[server.phase], span, now_ns)

    def _child(self, name: str, parent: Span, began_ns: int, model: str = "") -> Span:
        attributes = {"pool.model": model} if model else None
        return self._tracer.start_span(
            name,
            context=trace.set_span_in_context(parent),
            start_time=began_ns,
            attributes=attributes,
        )

    def _go_on(self, start: _Start, server: Server, now_ns: int, *, removed: bool) -> None:
        """Follow a start through its phases, up to READY or its failure."""
        if server.phase is not start.phase or removed:
            self._end_stage(start, server.model, now_ns)
            if removed or server.phase not in STAGES:
                self._end(start, server, now_ns, removed=removed)
                return
            start.phase = server.phase
            start.stage = self._stage(start.span, server, now_ns)
        start.detail = server.detail
        if server.phase is Phase.QUEUED:
            self._follow_download(start, server, now_ns)

    def _follow_download(self, start: _Start, server: Server, now_ns: int) -> None:
        """Begin or end the span of the download that a queued server waits for."""
        if start.download is None and server.progress is not None:
            start.download = self._child("download", start.stage, now_ns)
        elif start.download is not None and server.progress is None:
            start.download.end(now_ns)
            start.download = None

    def _end_stage(self, start: _Start, model: str, now_ns: int) -> None:
        if start.download is not None:
            start.download.end(now_ns)
            start.download = None
        if start.phase is Phase.QUEUED:
            if start.detail:
                start.stage.set_attribute("pool.waited_for", start.detail)
            self._add_stops(start, model, now_ns)
        start.stage.end(now_ns)

    def _add_stops(self, start: _Start, model: str, now_ns: int) -> None:
        """Add a span for each server that was stopped for this start while it was queued."""
        for server_id, stop in self._stops.by_id.items():
            if stop.preemptor == model and stop.began_ns >= start.began_ns:
                child = self._child("evict", start.stage, stop.began_ns, server_id.model)
                child.set_attribute("pool.generation", server_id.generation)
                child.end(stop.ended_ns or now_ns)

    def _end(self, start: _Start, server: Server, now_ns: int, *, removed: bool) -> None:
        is_ready = server.phase is Phase.READY and not removed
        if not is_ready:
            start.span.set_status(Status(StatusCode.ERROR, server.detail))
        if server.role is Role.CURRENT:
            self._end_waits(start, server.model, is_over=is_ready)
        start.span.end(now_ns)
        del self._starts[server.id]

    def _end_waits(self, start: _Start, model: str, *, is_over: bool) -> None:
        """Link every other call that waits for this start to it; is_over: they wait no longer."""
        link = Link(start.span.get_span_context())
        for call in list(self._calls.waiting(model)):
            if call is not start.cause:
                call.links.append(link)
            call.waits = not is_over

    def close(self) -> None:
        """End the spans of the starts under way, which another service may go on with."""
        now_ns = time.time_ns()
        for start in self._starts.values():
            if start.download is not None:
                start.download.end(now_ns)
            start.stage.end(now_ns)
            start.span.set_attribute("pool.left", value=True)
            start.span.end(now_ns)
        self._starts.clear()
