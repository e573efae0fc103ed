"""How a stop waits for what is in flight: on the server, and on what its process left behind.

A runtime that is told to stop may cut what it works on, and many do. So the first signal comes
when nothing is in flight any more, or when the time for that is over. What a process leaves
behind (the program of a wrapper script, say) gets the same time.
"""

from dataclasses import replace

from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.types import ExitReport

SHORTEST_PACE = 0.1
LONGEST_PACE = 1.0
"""Seconds between two looks at what is in flight on a server that is to stop."""

PACE_SHARE = 0.1
"""Of the time waited so far, within these bounds: so much longer does a stop take at most."""

WAITS = "waits for what is in flight"

SIGTERM = 15


def drains_first(server: Server) -> bool:
    """Return whether a server's stop waits for what is in flight before the first signal.

    Not where that does the same and keeps new requests out besides, nor where nothing can be
    in flight.
    """
    if server.ready_at is None or server.stop_signal is not None:
        return False
    drains_itself = server.plan is not None and server.plan.drains
    return not drains_itself


def draining(server: Server, now: float) -> Server:
    """Return a server that gets its first signal when nothing is in flight on it, or in time."""
    drain_by = server.drain_by
    if drain_by is None:
        drain_by = now + server.settings.drain_timeout
    return replace(server, drain_by=drain_by, step_deadline=drain_by)


def is_draining(server: Server) -> bool:
    """Return whether a server waits for what is in flight, and has got no signal yet."""
    waits = server.phase is Phase.STOPPING and server.drain_by is not None
    return waits and server.stop_signal is None


def seen_busy(server: Server, now: float) -> Server:
    """Return a draining server that was busy: the longer it waits, the later the next look."""
    assert server.drain_by is not None
    waited = now - (server.drain_by - server.settings.drain_timeout)
    pause = min(max(waited * PACE_SHARE, SHORTEST_PACE), LONGEST_PACE)
    return replace(
        server,
        step_deadline=min(now + pause, server.drain_by),
        detail=f"{server.stop_cause.value}; {WAITS}" if server.stop_cause else WAITS,
    )


def drain_time(server: Server, report: ExitReport, now: float) -> float:
    """Seconds that what it left behind may go on for, where it ended by a gentle signal."""
    if server.ready_at is None:
        return 0.0
    if server.phase is not Phase.STOPPING:
        return server.settings.drain_timeout if report.signal == SIGTERM else 0.0
    if server.stop_signal not in (None, StopSignal.TERMINATE):
        return 0.0
    return max(server.step_deadline - now, 0.0)


def cleaned_up(server: Server, *, killed: bool) -> Server:
    """Return a server of which nothing is left; killed: something that it left had to be."""
    return replace(server, stop_signal=StopSignal.KILL) if killed else server
