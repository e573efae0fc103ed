"""The metrics of a service as lines of text, from what one scrape shows."""

import platform
from collections.abc import Iterator, Mapping

from pool_service.core.server import Phase, Role, Server
from pool_service.core.types import FOREVER
from pool_service.metrics import families as f
from pool_service.metrics import text
from pool_service.metrics.view import View

SERVERS_A_PIECE = 50
"""Servers that are looked at at a time, in about as long."""

STATES: Mapping[Phase, str] = {
    Phase.QUEUED: "QUEUED",
    Phase.PREPARING: "STARTING",
    Phase.SPAWNING: "STARTING",
    Phase.STARTING: "STARTING",
    Phase.READY: "READY",
    Phase.STOPPING: "STOPPING",
    Phase.CLEANING_UP: "STOPPING",
    Phase.BACKING_OFF: "BACKING_OFF",
    Phase.FAILED: "FAILED",
}
"""The values of the label `state`, as List has them."""

_STATE_NAMES = tuple(dict.fromkeys(STATES.values()))


class _Model:
    """What a scrape shows of one value of the label `model`, over all servers that have it."""

    __slots__ = (
        "expected",
        "footprint",
        "generation",
        "holds",
        "label",
        "last_used_at",
        "pinned",
        "states",
        "waiting",
    )

    def __init__(self, label: str) -> None:
        self.label = f'{{model="{text.escape(label)}"}}'
        self.states = dict.fromkeys(_STATE_NAMES, 0)
        self.expected = self.footprint = self.holds = self.generation = 0
        self.waiting = self.pinned = 0
        self.last_used_at = -FOREVER

    def add(self, server: Server) -> None:
        """Add one server. Several have this label: beside a successor, or as OTHER."""
        self.states[STATES[server.phase]] += 1
        self.expected += server.expected
        self.footprint += server.footprint
        self.holds += server.holds
        self.pinned |= server.settings.pinned
        self.generation = max(self.generation, server.generation)
        self.last_used_at = max(self.last_used_at, server.last_used_at)


def pieces(view: View) -> Iterator[str]:
    """Yield the text of all metrics in pieces, some of which may be empty."""
    return text.pieces(_lines(view))


def _lines(view: View) -> Iterator[str]:
    """Yield all lines; an empty one asks for the end of the piece."""
    yield from _of_build(view)
    models: dict[str, _Model] = {}
    for count, server in enumerate(view.servers, 1):
        _add(models, server, view)
        if count % SERVERS_A_PIECE == 0:
            yield ""
    for model, waiting in view.totals.waiting_by_model.items():
        known = models.get(view.labels.of(model))
        if known is not None:
            known.waiting += waiting
    yield from _of_models(view, list(models.values()))
    yield from _of_pool(view)
    yield from text.call_lines(view.calls, f.RPCS, f.RPC_DURATION, f.STREAMS)
    yield from _of_service(view)


def _add(models: dict[str, _Model], server: Server, view: View) -> None:
    # An orphan is of no model that this pool knows.
    if server.role is Role.ORPHAN:
        return
    label = view.labels.of(server.model)
    if label not in models:
        models[label] = _Model(label)
    models[label].add(server)


def _of_build(view: View) -> Iterator[str]:
    python = platform.python_version()
    yield from text.family_lines(
        f.BUILD_INFO, [(text.labels_of(f.BUILD_INFO, (view.version, python)), 1)]
    )
    yield from text.family_lines(f.START_TIME, [("", view.started_at)])


def _of_models(view: View, models: list[_Model]) -> Iterator[str]:
    yield from text.family_lines(
        f.SERVER_STATE,
        (
            (f'{one.label[:-1]},state="{state}"}}', count)
            for one in models
            for state, count in one.states.items()
        ),
    )
    yield from text.family_lines(f.SERVER_EXPECTED, ((one.label, one.expected) for one in models))
    yield from text.family_lines(f.SERVER_FOOTPRINT, ((one.label, one.footprint) for one in models))
    yield from text.family_lines(f.SERVER_HOLDS, ((one.label, one.holds) for one in models))
    yield from text.family_lines(f.SERVER_WAITING, ((one.label, one.waiting) for one in models))
    yield from text.family_lines(
        f.SERVER_GENERATION, ((one.label, one.generation) for one in models)
    )
    yield from text.family_lines(f.SERVER_PINNED, ((one.label, int(one.pinned)) for one in models))
    last_uses = ((one.label, view.wall(one.last_used_at)) for one in models)
    yield from text.family_lines(f.SERVER_LAST_USE, last_uses)


def _of_pool(view: View) -> Iterator[str]:
    counts = view.pool
    yield from text.counter_lines(f.STARTS, counts.starts)
    yield from text.head_lines(f.START_SECONDS)
    for model, (count, seconds) in list(counts.loads.items()):
        labels = text.labels_of(f.START_SECONDS, (model,))
        yield f"{f.START_SECONDS.full_name}_sum{labels} {text.number(seconds)}\n"
        yield f"{f.START_SECONDS.full_name}_count{labels} {count}\n"
    yield from text.histogram_lines(
        f.START_DURATION, {(origin,): one for origin, one in counts.start_s.items()}
    )
    yield from text.histogram_lines(f.QUEUE_WAIT, {(): counts.queue_wait_s})
    yield from text.counter_lines(f.EXITS, counts.exits)
    yield from text.counter_lines(f.KILLS, counts.kills)
    yield from text.histogram_lines(f.STOP_DURATION, {(): counts.stop_s})


def _of_service(view: View) -> Iterator[str]:
    totals = view.totals
    single = {
        f.MEMORY_BUDGET: totals.memory_budget,
        f.MEMORY_RESERVED: totals.memory_reserved,
        f.STANDBYS: totals.standbys,
        f.QUEUED_MODELS: totals.by_phase[Phase.QUEUED],
        f.RECORDS_FAILING: int(view.records_failing),
        f.LOG_LINES_DROPPED: view.log_lines_dropped,
    }
    for family, value in single.items():
        yield from text.family_lines(family, [("", value)])
    # Unknown is no sample: neither 0 nor what was true an hour ago.
    unsure = {
        f.MEMORY_TOTAL: totals.memory_total or None,
        f.MEMORY_AVAILABLE: totals.memory_available if totals.memory_current else None,
        f.MEMORY_PRESSURED: int(totals.memory_pressured) if totals.memory_current else None,
        f.GUARD_ALIVE: None if view.guard_alive is None else int(view.guard_alive),
    }
    for family, known in unsure.items():
        if known is not None:
            yield from text.family_lines(family, [("", known)])
    yield from text.histogram_lines(f.LOOP_LAG, {(): view.loop_lag})
