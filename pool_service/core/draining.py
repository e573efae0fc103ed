"""Draining: how a stop waits for requests in flight. Transitions, as in `lifecycle.py`.

A runtime that drains by itself after SIGTERM (vllm-mlx, `LaunchPlan.drains`) gets the signal at
once. Others cut off requests in flight on the first signal: they get it only when nothing is in
flight, or when the drain timeout is over. Processes that outlive the server's own
process (such as the program of a wrapper script) get the same time.
"""

from dataclasses import replace

from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.types import ExitReport

MIN_CHECK_PAUSE_S = 0.1
MAX_CHECK_PAUSE_S = 1.0
"""The bounds of the time between two checks of a draining server."""

CHECK_PAUSE_SHARE = 0.1
"""The time between two checks as a share of the time drained so far, within these bounds: a stop
takes at most so much longer than it has to."""

WAITS = "waits for what is in flight"
"""The end of the detail of a draining server."""

SIGTERM = 15


def drains_first(server: Server) -> bool:
    """Return whether a stop drains the server before the first signal.

    No if the server drains itself after SIGTERM, which also keeps new requests out; nor if it
    never was READY, so that nothing can be in flight.
    """
    if not server.was_ready or server.stop_signal is not None:
        return False
    drains_itself = server.plan is not None and server.plan.drains
    return not drains_itself


def draining(server: Server, now: float) -> Server:
    """Return the server draining: its first signal follows when it is unused, or at `drain_by`."""
    drain_by = server.drain_by
    if drain_by is None:
        drain_by = now + server.settings.drain_timeout
    return replace(server, drain_by=drain_by, step_deadline=drain_by)


def is_draining(server: Server) -> bool:
    """Return whether a server drains before its first signal."""
    waits = server.phase is Phase.STOPPING and server.drain_by is not None
    return waits and server.stop_signal is None


def seen_busy(server: Server, now: float) -> Server:
    """Return a draining server that was busy, with the time of its next check."""
    assert server.drain_by is not None
    waited = now - (server.drain_by - server.settings.drain_timeout)
    pause = min(max(waited * CHECK_PAUSE_SHARE, MIN_CHECK_PAUSE_S), MAX_CHECK_PAUSE_S)
    return replace(
        server,
        step_deadline=min(now + pause, server.drain_by),
        detail=f"{server.stop_cause.value}; {WAITS}" if server.stop_cause else WAITS,
    )


def drain_time(server: Server, report: ExitReport, now: float) -> float:
    """Return the seconds for processes left behind to drain; 0 unless SIGTERM ended the server."""
    if not server.was_ready:
        return 0.0
    if server.phase is not Phase.STOPPING:
        return server.settings.drain_timeout if report.signal == SIGTERM else 0.0
    if server.stop_signal not in (None, StopSignal.TERMINATE):
        return 0.0
    return max(server.step_deadline - now, 0.0)


def cleaned_up(server: Server, *, killed: bool) -> Server:
    """Return the server after its clean-up; killed: a process left behind was killed."""
    return replace(server, stop_signal=StopSignal.KILL) if killed else server
