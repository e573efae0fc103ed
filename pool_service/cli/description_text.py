"""The text of `describe`: sections of aligned lines, for a terminal of 80 columns."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import click

from pool_service.cli.appearance import print_line
from pool_service.cli.connection import QUERY_TIMEOUT_S, client
from pool_service.cli.format import human_duration, json_object
from pool_service.cli.options import Target
from pool_service.cli.server_lines import (
    generation_text,
    needs_text,
    on_disk_text,
    state_reason,
    state_text,
)
from pool_service.core.units import size
from pool_service_client import (
    Choice,
    Decision,
    Description,
    EvictionCandidate,
    Exit,
    Run,
    Server,
    ServerRole,
    ServerState,
)

_LABEL_WIDTH = 16
_SHORT_S = 10.0
"""Durations below this many seconds are shown with a decimal place."""

_SHOWN_CALLERS = 10
"""Holders, and waiting calls, that are shown one by one."""

_SHOWN_IN_LINE = 5
"""Servers of the eviction order that are shown."""

Row = tuple[str, str]


def describe(target: Target, model: str, *, timeout: float | None, as_json: bool) -> None:
    """Print the description of a model."""
    with client(target, timeout) as pool:
        described = pool.describe(model, timeout=timeout or QUERY_TIMEOUT_S)
    if as_json:
        click.echo(json_object(described))
        return
    for line, indent in lines(described, datetime.now(UTC)):
        print_line(line, indent=indent)


def lines(described: Description, now: datetime) -> Iterator[tuple[str, int]]:
    """Yield the lines of a description, each with the indent of the lines that continue it."""
    for heading, rows in sections(described, now):
        if heading:
            yield f"{heading}:", 4
        yield from _lines_of_rows(rows, "  " if heading else "")


def _lines_of_rows(rows: Sequence[Row], indent: str) -> Iterator[tuple[str, int]]:
    width = max((len(name) for name, _ in rows if name), default=0)
    width = max(width, _LABEL_WIDTH - len(indent))
    for name, value in rows:
        start = f"{indent}{name:<{width}}  " if name else indent
        yield f"{start}{value}", len(start) if name else len(indent) + 4


def sections(described: Description, now: datetime) -> Iterator[tuple[str, list[Row]]]:
    """Yield the headings of a description with their lines that have a value.

    The first section has no heading.
    """
    for heading, rows in _all_sections(described, now):
        if listed := [row for row in rows if row[1]]:
            yield heading, listed


def _all_sections(described: Description, now: datetime) -> Iterator[tuple[str, Iterable[Row]]]:
    yield "", _head(described, now)
    for server in described.servers:
        role = "" if server.role is ServerRole.CURRENT else f" ({server.role.name.lower()})"
        title = f"Server of generation {generation_text(server)}{role}"
        yield title, _server(described, server, now)
    yield "Restarts", _restarts(described, now)
    yield "Holders", _holders(described, now)
    yield "Waiting", _waiting(described, now)
    yield "Next to go", _next_to_go(described, now)
    yield "Generations, the newest first", _runs(described.runs, now)
    yield "Decisions, the newest first", _decisions(described, now)
    yield "Settings", _settings(described)


def _head(described: Description, now: datetime) -> Iterator[Row]:
    yield "Model:", described.model
    yield "Aliases:", ", ".join(described.aliases)
    yield "Listed:", "yes" if described.listed else "no, the defaults apply"
    yield "Needs:", needs_text(described.expected_bytes, described.expected_by)
    yield "On disk:", on_disk_text(described.on_disk, described.disk_bytes)
    if described.usual_load is not None:
        yield "Usual load:", _seconds(described.usual_load)
    yield "Problem:", described.problem
    yield "Server:", "" if described.servers else "none"
    if described.last_exit is not None:
        yield "Last exit:", _exit_text(described.last_exit, now)


def _server(described: Description, server: Server, now: datetime) -> Iterator[Row]:
    is_ready = server.state is ServerState.READY
    is_queued = server.role is ServerRole.CURRENT and described.queue_time is not None
    yield "State:", f"{state_text(server)}{_ready_for(server, now)}"
    yield "Reason:", state_reason(server)
    yield "Queued:", _since(described.queue_time, now) if is_queued else ""
    yield "Endpoint:", server.endpoint
    yield "Name:", f"{server.served_model_name} (for requests)" if is_ready else ""
    yield "Process:", f"pid {server.pid}" if server.pid else ""
    yield "Memory:", _memory(server)
    yield "Last use:", _since(server.last_use_time, now)
    yield "Expires:", _expiry(server, now) if is_ready else ""
    yield "Log:", server.log_path
    yield "Last exit:", _exit_text(server.last_exit, now) if server.last_exit else ""


def _ready_for(server: Server, now: datetime) -> str:
    at = server.ready_time
    if at is None or server.state is not ServerState.READY:
        return ""
    return f" for {_ago(at, now)}, since {_clock(at, now)}"


def _memory(server: Server) -> str:
    taken = size(server.footprint_bytes) if server.footprint_bytes else "not measured"
    peak = f", at most {size(server.peak_bytes)} so far" if server.peak_bytes else ""
    return f"{taken}{peak}; expected {needs_text(server.expected_bytes, server.expected_by)}"


def _expiry(server: Server, now: datetime) -> str:
    if server.holds:
        return "not while it is held"
    if server.expire_time is None:
        return "never, it is pinned" if server.pinned else "never"
    left = human_duration((server.expire_time - now).total_seconds())
    return f"in {left} if it stays unused, at {_clock(server.expire_time, now)}"


def _restarts(described: Description, now: datetime) -> Iterator[Row]:
    crashes = len(described.crash_times)
    if crashes:
        window = human_duration(described.crash_window.total_seconds())
        limit = described.crash_limit
        yield "Crashes:", f"{crashes} in the last {window}; {limit} are a crash loop"
    if described.retry_time is not None:
        left = human_duration((described.retry_time - now).total_seconds())
        yield "Starts again:", f"not before {_clock(described.retry_time, now)}, in {left}"
    if described.failure_reason:
        yield "Calls get:", f"{described.failure_reason}: {described.failure_message}"


def _holders(described: Description, now: datetime) -> Iterator[Row]:
    for one in described.holders[:_SHOWN_CALLERS]:
        yield one.label or "(no label)", _since(one.since, now)
    if described.holds > _SHOWN_CALLERS:
        yield "", f"and {described.holds - _SHOWN_CALLERS} more"


def _waiting(described: Description, now: datetime) -> Iterator[Row]:
    for one in described.waiting[:_SHOWN_CALLERS]:
        kind = "the service" if one.own else "Hold" if one.hold else "Ensure"
        label = f" ({one.holder})" if one.holder else ""
        yield f"{kind}{label}", _since(one.since, now)
    more = described.waiting_calls - _SHOWN_CALLERS
    if more > 0:
        yield "", f"and {more} more"


def _next_to_go(described: Description, now: datetime) -> Iterator[Row]:
    for place, one in enumerate(described.next_to_go[:_SHOWN_IN_LINE], 1):
        yield f"{place}. {one.model}", _candidate_text(one, now)
    place = described.eviction_position
    if place > _SHOWN_IN_LINE:
        yield f"{place}. {described.model}", f"of {described.eviction_candidates}"
    if described.kept_because:
        yield "", f"{described.model} is not among them: {described.kept_because}"


def _candidate_text(one: EvictionCandidate, now: datetime) -> str:
    busy = ", busy" if one.busy else ""
    stays = ""
    if one.reside_time is not None and one.reside_time > now:
        stays = f", in its grace period until {_clock(one.reside_time, now)}"
    return f"frees {size(one.freed_bytes)}, worth {one.retention_seconds:.1f} s{busy}{stays}"


def _settings(described: Description) -> Iterator[Row]:
    for one in described.settings:
        running = f"; the server runs with {one.running}" if one.running else ""
        yield one.key, f"{one.value} ({one.source}){running}"


def _runs(runs: Sequence[Run], now: datetime) -> Iterator[Row]:
    for run in reversed(runs):
        origin = f"{run.origin.name.lower()}: " if run.origin else ""
        end = f"; ended {_end_text(run.exit, now)}" if run.exit is not None else ""
        peak = f"; at most {size(run.peak_bytes)}" if run.peak_bytes else ""
        stages = ", ".join(_stages(run)) or f"requested {_since(run.create_time, now)}"
        ready = f"; READY at {_clock(run.ready_time, now)}" if run.ready_time is not None else ""
        yield str(run.generation), f"{origin}{stages}{ready}{peak}{end}"


def _stages(run: Run) -> Iterator[str]:
    """Yield how long each stage of a start took, as far as it is known."""
    marks = (
        ("queued", run.create_time, run.admit_time),
        ("spawned in", run.admit_time, run.start_time),
    )
    for name, begin, end in marks:
        if begin is not None and end is not None:
            yield f"{name} {_seconds(end - begin)}"
    if run.load is not None:
        yield f"loaded in {_seconds(run.load)}"


def _decisions(described: Description, now: datetime) -> Iterator[Row]:
    for one in reversed([*_news(described.decisions)]):
        figures = f"; {_figures(one.choice)}" if one.choice is not None else ""
        why = f", {one.why}" if one.why else ""
        yield (
            f"{_clock(one.time, now)}  {one.generation}",
            f"{_change(one)}{why}{figures}",
        )


def _news(decisions: Sequence[Decision]) -> Iterator[Decision]:
    """Yield the decisions that changed a state on the wire, or say something new."""
    before = ""
    for one in decisions:
        if one.before is not one.after or one.choice is not None or one.why not in ("", before):
            yield one
        before = one.why


def _change(one: Decision) -> str:
    before = one.before.name if one.before else "new"
    after = one.after.name if one.after else "gone"
    return after if before == after else f"{before} -> {after}"


def _figures(choice: Choice) -> str:
    budget = f" of {size(choice.budget_bytes)}" if choice.budget_bytes is not None else ""
    available = choice.available_bytes
    machine = f", {size(available)} available" if available is not None else ""
    text = f"needs {size(choice.needed_bytes)}; {size(choice.reserved_bytes)}{budget} reserved"
    for verb, group in (("stops", choice.chosen), ("keeps", choice.passed_over)):
        if group:
            named = [f"{one.model} (worth {one.retention_seconds:.1f} s)" for one in group]
            machine += f"; {verb} {', '.join(named)}"
    return f"{text}{machine}"


def _exit_text(end: Exit, now: datetime) -> str:
    return f"generation {end.generation} at {_end_text(end, now)}"


def _end_text(end: Exit, now: datetime) -> str:
    cause = end.cause.name.lower().replace("_", " ")
    # Who may not read logs is told no reason.
    why = f": {end.message}" if end.message else ""
    return f"{_clock(end.time, now)}, {cause}{why}"


def _since(at: datetime | None, now: datetime) -> str:
    return "-" if at is None else f"{_ago(at, now)} ago, at {_clock(at, now)}"


def _ago(at: datetime, now: datetime) -> str:
    return human_duration((now - at).total_seconds())


def _clock(at: datetime | None, now: datetime) -> str:
    """Return a local time, with the date unless it is today."""
    if at is None:
        return "-"
    local = at.astimezone()
    is_today = local.date() == now.astimezone().date()
    return f"{local:%H:%M:%S}" if is_today else f"{local:%Y-%m-%d %H:%M:%S}"


def _seconds(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    return f"{seconds:.1f}s" if seconds < _SHORT_S else human_duration(seconds)
