"""Restart policy: whether, when and with which estimate a model is started again. Pure functions.

The backoff doubles with each crash in a sliding window; a run that was READY for `stable_run`
seconds clears the crashes before it. The jitter depends only on model and generation: servers
that crash together do not start together, and the backoff stays predictable in tests.
"""

from dataclasses import replace
from zlib import crc32

from pool_service.core import measuring
from pool_service.core.error_texts import crash_loop, start_failure, start_timeout
from pool_service.core.errors import PoolError
from pool_service.core.limits import Limits
from pool_service.core.server import Cause, Server
from pool_service.core.types import Diagnosis, ExitReport

OUT_OF_MEMORY_FACTOR = 1.25
"""The factor by which the estimate of a server grows after it ran out of memory."""

_MAY_PASS = frozenset({Diagnosis.CRASHED, Diagnosis.OUT_OF_MEMORY})
"""Diagnoses after which the same start may succeed."""


def crash_times(server: Server, limits: Limits, now: float) -> tuple[float, ...]:
    """Return the times of a server's crashes that count, with one more at `now`."""
    stable = server.ready_at is not None and now - server.ready_at >= limits.stable_run
    earlier = () if stable else server.crashes
    return (*(at for at in earlier if now - at < limits.crash_window), now)


def delay(server: Server, limits: Limits) -> float:
    """Return the backoff before the next start in seconds, by the number of crashes.

    1. After the first crash of a server that was READY: 0, since that says nothing against its
       start.
    2. Else `backoff_initial`, doubled with each crash after the first, at most `backoff_max`, times
       0.5 to 1 as jitter. So the first pause of a server that was READY comes after its second
       crash, and is up to twice `backoff_initial`.
    """
    if len(server.crashes) == 1 and server.was_ready:
        return 0.0
    doubled = limits.backoff_initial * 2.0 ** (len(server.crashes) - 1)
    spread = crc32(f"{server.model}#{server.generation}".encode()) / 2**32
    return min(doubled, limits.backoff_max) * (0.5 + spread / 2)


def is_loop(server: Server, limits: Limits) -> bool:
    """Return whether a server is in a crash loop: `crash_limit` crashes within the window."""
    return len(server.crashes) >= limits.crash_limit


def has_crashed(server: Server) -> bool:
    """Return whether a server's last process crashed, or was wedged, for a reason that may pass."""
    end = server.last_exit
    if end is None:
        return False
    if end.cause is Cause.WEDGED:
        return True
    return end.cause is Cause.CRASHED and end.report.diagnosis in _MAY_PASS


def was_killed(report: ExitReport) -> bool:
    """Return whether a signal ended the process, or it is not known what did.

    Then the same start may succeed; one that ended by itself, with a code, would end again.
    """
    return report.diagnosis in _MAY_PASS and report.code is None


def lasting_failure(server: Server, limits: Limits) -> PoolError | None:
    """Return the error of the last run if starting again now would fail as well, or None."""
    end = server.last_exit
    if end is None or end.generation != server.generation:
        return None
    if has_crashed(server):
        return crash_loop(server, limits) if is_loop(server, limits) else None
    if end.cause is Cause.START_TIMEOUT:
        # A record of an earlier version has no error.
        return server.failure or replace(start_timeout(server), last_lines=end.report.last_lines)
    if end.report.diagnosis is Diagnosis.PORT_TAKEN:
        return None
    return start_failure(server, end.report)


def observed_need(server: Server, budget: float) -> int:
    """Return the bytes that a model needs, by the end of its process; 0 if that tells nothing.

    1. A process that ran out of memory by itself needs more than it had or was expected to need.
       At most the whole budget: others may have taken the memory, so alone it may start again.
    2. Otherwise the process needs its peak, if a memory sample saw it READY.

    Neither is more than the memory limit.
    """
    end = server.last_exit
    ran_out = end is not None and end.report.diagnosis is Diagnosis.OUT_OF_MEMORY
    if ran_out and server.stop_signal is None:
        more = int(max(server.peak, server.expected) * OUT_OF_MEMORY_FACTOR)
        return measuring.bounded(server, int(max(server.peak, min(more, budget))))
    return measuring.bounded(server, server.peak) if server.sampled_ready else 0
