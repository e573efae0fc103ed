"""What is said of servers, in lines."""

from pool_service.cli.appearance import Mark
from pool_service.cli.format import safe
from pool_service.core.units import size
from pool_service_client import (
    Exit,
    ExitCause,
    Expectation,
    Model,
    Server,
    ServerRole,
    ServerState,
    Totals,
)

_BY_ITSELF = {ExitCause.CRASHED, ExitCause.WEDGED, ExitCause.MEMORY_LIMIT}
"""Why a process ended that nobody asked to end and that was not in anybody's way."""

MARKS = {
    ServerState.READY: Mark.GOOD,
    ServerState.QUEUED: Mark.WAITING,
    ServerState.STARTING: Mark.UNDER_WAY,
    ServerState.STOPPING: Mark.UNDER_WAY,
    ServerState.BACKING_OFF: Mark.WAITING,
    ServerState.FAILED: Mark.BAD,
}
"""How each state is shown; one that a newer service has is shown as NOTE."""

STATE_WIDTH = 13
"""Of the state at the beginning of a line of `watch`; the longest is STARTING with a share."""

_UNDER_WAY = {ServerState.QUEUED, ServerState.STARTING}


def label(server: Server) -> str:
    """Return a server's model, with its role where callers of the model do not get it."""
    if server.role is ServerRole.ORPHAN:
        return "(orphan)"
    is_beside = server.role in {ServerRole.SUCCESSOR, ServerRole.SUPERSEDED}
    return f"{server.model} ({server.role.name.lower()})" if is_beside else server.model


def generation(server: Server) -> str:
    """Return a server's generation; an orphan's is not known."""
    return "-" if server.role is ServerRole.ORPHAN else str(server.generation)


def doing(server: Server) -> str:
    """Return its state, with its place in the queue and how far it is: QUEUED #2, STARTING 43%."""
    place = f" #{server.queue_position}" if server.queue_position else ""
    is_known = server.progress is not None and server.state in _UNDER_WAY
    return f"{server.state.name}{place}" + (f" {server.progress:.0%}" if is_known else "")


def why(server: Server) -> str:
    """Why a server is in its state, as far as there is something to say."""
    if server.detail:
        return server.detail
    if server.outdated:
        return "runs with an earlier configuration, and ends when it is next unused"
    if server.last_exit is None:
        return ""
    if server.state is ServerState.FAILED:
        return server.last_exit.message
    if server.state is ServerState.READY and server.last_exit.cause in _BY_ITSELF:
        return f"was started again after generation {_ended(server.last_exit)}"
    return ""


def _ended(last_exit: Exit) -> str:
    at = f" ({last_exit.time.astimezone():%Y-%m-%d %H:%M})" if last_exit.time else ""
    return f"{last_exit.generation}{at}: {last_exit.message}"


def status(server: Server) -> str:
    """Tell what a server is doing and why, in a line."""
    reason = f": {why(server)}" if why(server) else ""
    return safe(f"{label(server)}: {doing(server).lower().replace('_', ' ')}{reason}")


def ready(server: Server, how: str) -> str:
    """Tell that a server is READY, and how to ask it, in a line."""
    return (
        f"{server.model}: {how} (generation {server.generation}, pid {server.pid}); "
        f"requests must name the model {server.served_model_name}"
    )


def summary(totals: Totals) -> str:
    """The pool's counts in a line."""
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


def memory(totals: Totals) -> str:
    """The pool's memory in a line; empty while nothing is known of it."""
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


def needs(expected_bytes: int, expected_by: Expectation) -> str:
    """Tell what a server is expected to need, and how that is known."""
    if not expected_bytes:
        return "-"
    return f"{size(expected_bytes)} ({expected_by.name.lower()})"


def on_disk(model: Model) -> str:
    """Tell how much of a model is on the disk, and whether that is all."""
    taken = size(model.disk_bytes) if model.disk_bytes else ""
    if model.on_disk is False:
        return f"{taken} (partial)" if taken else "no"
    return taken or ("yes" if model.on_disk else "-")


def change(server: Server, state: str) -> str:
    """A server and what it is doing, in a line."""
    process = f" pid {server.pid}" if server.pid else ""
    place = f" {server.endpoint}" if server.endpoint else ""
    reason = f": {why(server)}" if why(server) else ""
    which = f"{label(server)} (generation {generation(server)}{process})"
    return safe(f"{state:<{STATE_WIDTH}} {which}{place}{reason}")
