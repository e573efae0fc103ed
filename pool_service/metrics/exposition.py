"""The text of metrics, in Prometheus's format 0.0.4, made in small pieces.

A scrape runs on the event loop beside the calls, and each piece is a fraction of a millisecond.
The client library of Prometheus was measured and holds the loop for longer (docs/dependencies.md).
"""

import platform
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from pool_service.core.server import Phase, Role, Server
from pool_service.core.types import FOREVER
from pool_service.metrics import families as f
from pool_service.metrics.families import Family
from pool_service.metrics.values import Counter, Histogram
from pool_service.metrics.view import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Not OpenMetrics: that names the families of counters otherwise, and Prometheus reads both."""

LINES_A_PIECE = 200
"""Lines that are written at a time, in about a tenth of a millisecond."""

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

Sample = tuple[str, float]
"""The labels as they are written, with braces or empty, and the value."""


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
        self.label = f'{{model="{escape(label)}"}}'
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
    """Yield the text of all metrics, in pieces of at most about LINES_A_PIECE lines each.

    A piece may be empty: it stands for work that yields its text later.
    """
    lines: list[str] = []
    for line in _lines(view):
        if line:
            lines.append(line)
        if not line or len(lines) >= LINES_A_PIECE:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)


def escape(value: str) -> str:
    """Return a label's value with the escapes of the format."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
    yield from _of_calls(view)
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
    yield from _family(f.BUILD_INFO, [(_labels(f.BUILD_INFO, (view.version, python)), 1)])
    yield from _family(f.START_TIME, [("", view.started_at)])


def _of_models(view: View, models: list[_Model]) -> Iterator[str]:
    yield from _family(
        f.SERVER_STATE,
        (
            (f'{one.label[:-1]},state="{state}"}}', count)
            for one in models
            for state, count in one.states.items()
        ),
    )
    yield from _family(f.SERVER_EXPECTED, ((one.label, one.expected) for one in models))
    yield from _family(f.SERVER_FOOTPRINT, ((one.label, one.footprint) for one in models))
    yield from _family(f.SERVER_HOLDS, ((one.label, one.holds) for one in models))
    yield from _family(f.SERVER_WAITING, ((one.label, one.waiting) for one in models))
    yield from _family(f.SERVER_GENERATION, ((one.label, one.generation) for one in models))
    yield from _family(f.SERVER_PINNED, ((one.label, int(one.pinned)) for one in models))
    last_uses = ((one.label, view.wall(one.last_used_at)) for one in models)
    yield from _family(f.SERVER_LAST_USE, last_uses)


def _of_pool(view: View) -> Iterator[str]:
    counts = view.pool
    yield from _counter(f.STARTS, counts.starts)
    yield from _head(f.START_SECONDS)
    for model, (count, seconds) in list(counts.loads.items()):
        labels = _labels(f.START_SECONDS, (model,))
        yield f"{f.START_SECONDS.full_name}_sum{labels} {_number(seconds)}\n"
        yield f"{f.START_SECONDS.full_name}_count{labels} {count}\n"
    yield from _histograms(
        f.START_DURATION, {(origin,): one for origin, one in counts.start_s.items()}
    )
    yield from _histograms(f.QUEUE_WAIT, {(): counts.queue_wait_s})
    yield from _counter(f.EXITS, counts.exits)
    yield from _counter(f.KILLS, counts.kills)
    yield from _histograms(f.STOP_DURATION, {(): counts.stop_s})


def _of_calls(view: View) -> Iterator[str]:
    calls = view.calls
    ended = [(_labels(f.RPCS, key), count) for key, count in calls.ended.items()]
    yield from _family(f.RPCS, ended)
    yield from _histograms(
        f.RPC_DURATION, {(method,): one for method, one in calls.seconds.items()}
    )
    streams = [(_labels(f.STREAMS, (method,)), count) for method, count in calls.streams.items()]
    yield from _family(f.STREAMS, streams)


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
        yield from _family(family, [("", value)])
    # Unknown is no sample: neither 0 nor what was true an hour ago.
    unsure = {
        f.MEMORY_TOTAL: totals.memory_total or None,
        f.MEMORY_AVAILABLE: totals.memory_available if totals.memory_current else None,
        f.MEMORY_PRESSURED: int(totals.memory_pressured) if totals.memory_current else None,
        f.GUARD_ALIVE: None if view.guard_alive is None else int(view.guard_alive),
    }
    for family, known in unsure.items():
        if known is not None:
            yield from _family(family, [("", known)])
    yield from _histograms(f.LOOP_LAG, {(): view.loop_lag})


# --- lines --------------------------------------------------------------------------------


def _head(family: Family) -> Iterator[str]:
    yield f"# HELP {family.full_name} {family.help}\n"
    yield f"# TYPE {family.full_name} {family.kind}\n"


def _family(family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    yield from _head(family)
    name = family.full_name
    for labels, value in samples:
        yield f"{name}{labels} {_number(value)}\n"


def _counter(family: Family, counter: Counter) -> Iterator[str]:
    # A copy: counts may be added while the pieces are written.
    return _family(family, [(_labels(family, key), count) for key, count in counter.counts.items()])


def _histograms(family: Family, by_labels: Mapping[tuple[str, ...], Histogram]) -> Iterator[str]:
    yield from _head(family)
    for values, histogram in by_labels.items():
        yield from _histogram(family, values, histogram)


def _histogram(family: Family, values: tuple[str, ...], histogram: Histogram) -> list[str]:
    """Return the lines of one histogram, all of the same moment."""
    name, labels = family.full_name, _labels(family, values)
    inner = f"{labels[1:-1]}," if labels else ""
    bounds = [*map(_number, histogram.bounds), "+Inf"]
    counts = list(accumulate(histogram.counts))
    lines = [
        f'{name}_bucket{{{inner}le="{bound}"}} {count}\n'
        for bound, count in zip(bounds, counts, strict=True)
    ]
    lines.append(f"{name}_sum{labels} {_number(histogram.total)}\n")
    lines.append(f"{name}_count{labels} {counts[-1]}\n")
    return lines


def _labels(family: Family, values: tuple[str, ...]) -> str:
    pairs = zip(family.labels, values, strict=True)
    text = ",".join(f'{name}="{escape(value)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""


def _number(value: float) -> str:
    if value == FOREVER:
        return "+Inf"
    return repr(value)
