"""How long to wait before a model that died is started again, and when to give up.

The delay doubles with each death in a sliding window; a run that was READY for long
enough forgets them. It is spread by a jitter that is fixed for a model and a generation,
so that models which die together do not start together, and a test can say the number.
"""

from zlib import crc32

from pool_service.core.limits import Limits
from pool_service.core.types import Server


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
    doubled = limits.backoff_first * 2.0 ** (len(server.crashes) - 1)
    spread = crc32(f"{server.model}#{server.generation}".encode()) / 2**32
    return min(doubled, limits.backoff_most) * (0.5 + spread / 2)


def is_loop(server: Server, limits: Limits) -> bool:
    """Whether it died so often that trying at once again makes no sense."""
    return len(server.crashes) >= limits.crash_limit
