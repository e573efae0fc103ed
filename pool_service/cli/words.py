"""What is said of servers, in lines."""

from pool_service.cli.text import safe
from pool_service_client import Server, ServerState, Totals


def why(server: Server) -> str:
    """Why a server is in its state, as far as there is something to say."""
    if server.detail or server.state is not ServerState.FAILED or server.last_exit is None:
        return server.detail
    return server.last_exit.message


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
    return servers + (f": {', '.join(counts)}" if counts else "") + waiting


def change(server: Server, state: str) -> str:
    """A server and what it is doing, in a line."""
    process = f" pid {server.pid}" if server.pid else ""
    place = f" {server.endpoint}" if server.endpoint else ""
    reason = f": {why(server)}" if why(server) else ""
    return safe(
        f"{state:<11} {server.model} (generation {server.generation}{process}){place}{reason}"
    )
