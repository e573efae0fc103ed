"""Texts about servers, models and the pool's totals, each on one line."""

from datetime import UTC, datetime
from math import ceil

from pool_service.cli.appearance import Mark
from pool_service.cli.format import human_duration, safe
from pool_service.core.units import size
from pool_service_client import (
    Exit,
    ExitCause,
    Expectation,
    Server,
    ServerRole,
    ServerState,
    Totals,
)

_UNREQUESTED_EXITS = {ExitCause.CRASHED, ExitCause.WEDGED, ExitCause.MEMORY_LIMIT}
"""Causes of exits that neither a caller nor the scheduler wanted."""

STATE_MARKS = {
    ServerState.READY: Mark.GOOD,
    ServerState.QUEUED: Mark.WAITING,
    ServerState.STARTING: Mark.UNDER_WAY,
    ServerState.STOPPING: Mark.UNDER_WAY,
    ServerState.BACKING_OFF: Mark.WAITING,
    ServerState.FAILED: Mark.BAD,
}
"""The mark of each state; a state that only a newer service knows gets NOTE."""

STATE_COLUMN_WIDTH = 13
"""Cells of the state at the beginning of a line of `watch`; the longest is STARTING 100%."""

_MINUTES_FROM_S = 90
"""The number of seconds from which on a time is shown in minutes."""

_STATES_WITH_PROGRESS = {ServerState.QUEUED, ServerState.STARTING}


def label(server: Server) -> str:
    """Return a server's model, with its role unless it is the one that callers get."""
    if server.role is ServerRole.ORPHAN:
        return "(orphan)"
    is_beside = server.role in {ServerRole.SUCCESSOR, ServerRole.SUPERSEDED}
    return f"{server.model} ({server.role.name.lower()})" if is_beside else server.model


def generation_text(server: Server) -> str:
    """Return a server's generation; "-" for an orphan, whose generation is not known."""
    return "-" if server.role is ServerRole.ORPHAN else str(server.generation)


def state_text(server: Server) -> str:
    """Return a server's state with its queue position or progress: QUEUED #2, STARTING 43%."""
    place = f" #{server.queue_position}" if server.queue_position else ""
    is_known = server.progress is not None and server.state in _STATES_WITH_PROGRESS
    return f"{server.state.name}{place}" + (f" {server.progress:.0%}" if is_known else "")


def state_reason(server: Server) -> str:
    """Return why a server is in its state; empty if there is nothing to say."""
    if server.detail:
        return server.detail
    if server.state is ServerState.STARTING and server.expected_ready_time is not None:
        return _time_left((server.expected_ready_time - datetime.now(UTC)).total_seconds())
    if server.outdated:
        return "runs with an earlier configuration, and ends when it is next unused"
    return _reason_of_exit(server, server.last_exit) if server.last_exit is not None else ""


def remark(server: Server) -> str:
    """Return the reason for a server's state; for a FAILED one also the path of its log."""
    reason, log = state_reason(server), server.log_path
    names_log = server.state is ServerState.FAILED and log and log not in reason
    return f"{reason} (log: {log})" if reason and names_log else reason


def _reason_of_exit(server: Server, last_exit: Exit) -> str:
    if server.state is ServerState.FAILED:
        return last_exit.message
    if server.state is ServerState.READY and last_exit.cause in _UNREQUESTED_EXITS:
        return f"was started again after generation {_exit_text(last_exit)}"
    return ""


def _time_left(seconds: float) -> str:
    """Return how long a start still takes, in minutes if seconds do not matter; "" if unknown."""
    if seconds <= 0:
        return ""
    left = f"{ceil(seconds)} s" if seconds < _MINUTES_FROM_S else f"{seconds / 60:.0f} min"
    return f"about {left} left"


def _exit_text(last_exit: Exit) -> str:
    at = f" ({last_exit.time.astimezone():%Y-%m-%d %H:%M})" if last_exit.time else ""
    why = f": {last_exit.message}" if last_exit.message else ""
    return f"{last_exit.generation}{at}{why}"


def status_line(server: Server) -> str:
    """Return a line with a server's state and the reason for it."""
    reason = f": {why}" if (why := state_reason(server)) else ""
    return safe(f"{label(server)}: {state_text(server).lower().replace('_', ' ')}{reason}")


def ready_line(server: Server, how: str) -> str:
    """Return a line that says that a server is READY, and which model requests must name.

    how: "ready", or "started in 3.2 s".
    """
    shown = " and show its key (ensure --env)" if server.api_key else ""
    return (
        f"{server.model}: {how} (generation {server.generation}, pid {server.pid}); "
        f"requests must name the model {server.served_model_name}{shown}"
    )


def totals_line(totals: Totals) -> str:
    """Return a line with the pool's counts."""
    states = ("ready", "starting", "queued", "backing_off", "stopping", "failed")
    counts = [
        f"{getattr(totals, state)} {state.replace('_', ' ')}"
        for state in states
        if getattr(totals, state)
    ]
    servers = f"{totals.servers} server{'' if totals.servers == 1 else 's'}"
    waiting = f", {totals.waiting_calls} waiting to be ready" if totals.waiting_calls else ""
    standbys = f", {totals.standbys} standing by" if totals.standbys else ""
    return servers + (f": {', '.join(counts)}" if counts else "") + waiting + standbys


def memory_line(totals: Totals) -> str:
    """Return a line with the pool's memory; empty before the first memory sample."""
    if not totals.memory_total_bytes:
        return ""
    budget = totals.memory_budget_bytes
    of = "without a limit" if budget is None else f"of {size(budget)}"
    short = "; the machine is short of memory"
    return (
        f"memory: {size(totals.memory_reserved_bytes)} reserved {of}, "
        f"{size(totals.memory_available_bytes)} available"
        + (short if totals.memory_pressured else "")
    )


def memory_text(server: Server) -> str:
    """Return a server's footprint and its expected memory: "3.1 GB / 4.0 GB"."""
    amounts = (server.footprint_bytes, server.expected_bytes)
    return " / ".join(size(amount) if amount else "-" for amount in amounts if any(amounts)) or "-"


def expiry_text(server: Server, now: datetime) -> str:
    """Return when a server stops if it stays unused, or why it does not."""
    if server.holds:
        return "held"
    if server.expire_time is not None:
        return f"in {human_duration((server.expire_time - now).total_seconds())}"
    if server.state is not ServerState.READY:
        return "-"
    return "pinned" if server.pinned else "never"


def needs_text(expected_bytes: int, expected_by: Expectation) -> str:
    """Return the memory that a server is expected to need, and the source of the estimate."""
    if not expected_bytes:
        return "-"
    return f"{size(expected_bytes)} ({expected_by.name.lower()})"


def on_disk_text(on_disk: bool | None, disk_bytes: int) -> str:  # noqa: FBT001  # as on the wire
    """Return how much of a model is on disk, and whether it is only a part."""
    taken = size(disk_bytes) if disk_bytes else ""
    if on_disk is False:
        return f"{taken} (partial)" if taken else "no"
    return taken or ("yes" if on_disk else "-")


def change_line(server: Server, state: str) -> str:
    """Return a line of `watch`: a state, the server that is in it, and the reason."""
    process = f" pid {server.pid}" if server.pid else ""
    place = f" {server.endpoint}" if server.endpoint else ""
    reason = f": {why}" if (why := state_reason(server)) else ""
    which = f"{label(server)} (generation {generation_text(server)}{process})"
    return safe(f"{state:<{STATE_COLUMN_WIDTH}} {which}{place}{reason}")
