"""Whether, and when, a model whose process died is started again: pure.

The delay doubles with each death in a sliding window; a run that was READY for long
enough forgets them. It is spread by a jitter that is fixed for a model and a generation,
so that models which die together do not start together, and a test can say the number.
"""

from zlib import crc32

from pool_service.core.errors import PoolError
from pool_service.core.failures import crash_loop, start_failure, start_timeout
from pool_service.core.limits import Limits
from pool_service.core.server import Cause, Server
from pool_service.core.types import Diagnosis, ExitReport

_MAY_PASS = frozenset({Diagnosis.CRASHED, Diagnosis.OUT_OF_MEMORY})


def deaths(server: Server, limits: Limits, now: float) -> tuple[float, ...]:
    """The times of its unasked deaths that count, the one of just now included."""
    stable = server.ready_at is not None and now - server.ready_at >= limits.stable_run
    earlier = () if stable else server.crashes
    return (*(at for at in earlier if now - at < limits.crash_window), now)


def delay(server: Server, limits: Limits) -> float:
    """Seconds until the next start, by the number of deaths: doubled, bounded, jittered.

    The first death of one that had served delays nobody: it says nothing about its start.
    """
    if len(server.crashes) == 1 and server.ready_at is not None:
        return 0.0
    doubled = limits.backoff_initial * 2.0 ** (len(server.crashes) - 1)
    spread = crc32(f"{server.model}#{server.generation}".encode()) / 2**32
    return min(doubled, limits.backoff_max) * (0.5 + spread / 2)


def is_loop(server: Server, limits: Limits) -> bool:
    """Whether it died so often that trying at once again makes no sense."""
    return len(server.crashes) >= limits.crash_limit


def is_crash(server: Server) -> bool:
    """Return whether the last process died, or had to, unasked and for no reason that stays."""
    end = server.last_exit
    if end is None or end.cause is Cause.WEDGED:
        return end is not None
    return end.cause is Cause.CRASHED and end.report.diagnosis in _MAY_PASS


def was_killed(report: ExitReport) -> bool:
    """Whether a signal ended it, so that the same start may well succeed."""
    return report.diagnosis in _MAY_PASS and report.code is None


def lasting_failure(server: Server, limits: Limits) -> PoolError | None:
    """Why another start at once would be in vain, after the last one; None if it may not be."""
    end = server.last_exit
    if end is None or end.generation != server.generation:
        return None
    if is_crash(server):
        return crash_loop(server, limits) if is_loop(server, limits) else None
    if end.cause is Cause.START_TIMEOUT:
        return start_timeout(server, end.report.last_lines)
    if end.report.diagnosis is Diagnosis.PORT_TAKEN:
        return None
    return start_failure(server, end.report)
