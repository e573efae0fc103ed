"""Quotas: limits the holds, waiting calls, streams and starts of each caller."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from pool_service.access.principal import Principal
from pool_service.core.errors import (
    ModelRejected,
    PoolError,
    QuotaExceeded,
    StartFailed,
    StartTimeout,
)
from pool_service.core.types import FOREVER

RETRY_AFTER_S = 1.0
"""The time after which a caller may try again that has too many calls open."""

_MINUTE_S = 60.0

_UNCOUNTED = nullcontext()
"""A block without a limit: most calls have none, and this costs a third of a generator."""

_WITH_A_PROCESS = (ModelRejected, StartFailed, StartTimeout)
"""The errors of starts for which a process was started."""

_WHAT_TO_DO = {
    "holds": "Release one",
    "waiting": "Wait until one has its answer",
    "streams": "Close one",
}


@dataclass(slots=True)
class Start:
    """A start of a server for a caller. counts: set it to False if the call has started none."""

    counts: bool = True


class Quotas:
    """Counts what each caller has open, and how many servers it has had started lately.

    now: the time in seconds, from any beginning.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open: Counter[tuple[str, str]] = Counter()
        self._starts: dict[str, tuple[float, float]] = {}

    def open(self, principal: Principal, limit: str) -> AbstractContextManager[None]:
        """Count one more of what a limit bounds, until the block ends.

        limit: holds, waiting or streams. The block's begin raises QuotaExceeded.
        """
        most = getattr(principal.limits, limit)
        return _UNCOUNTED if most == FOREVER else self._counted(principal.name, limit, most)

    @contextmanager
    def _counted(self, name: str, limit: str, most: float) -> Iterator[None]:
        key = name, limit
        if self._open[key] >= most:
            raise QuotaExceeded(
                f"{name!r} has as many {_PLURALS[limit]} as it may, {most:g}. "
                f"{_WHAT_TO_DO[limit]}, or have max_{limit} raised.",
                limit=limit,
                most=int(most),
                retry_after=RETRY_AFTER_S,
            )
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

    @contextmanager
    def start(self, principal: Principal) -> Iterator["Start"]:
        """Count the start of a server that the block may make for a caller.

        The start is given back if `counts` is False at the end of the block, or if the block ends
        with an error that comes before a process. Raises QuotaExceeded.
        """
        start = Start()
        most = principal.limits.starts_per_minute
        if most == FOREVER:
            yield start
            return
        self._take(principal.name, most)
        try:
            yield start
        except PoolError as error:
            start.counts = isinstance(error, _WITH_A_PROCESS)
            raise
        finally:
            if not start.counts:
                left = min(self._left(principal.name, most) + 1, most)
                self._starts[principal.name] = self._now(), left

    def _take(self, name: str, most: float) -> None:
        left = self._left(name, most)
        if left < 1:
            # If nothing may ever be started: a minute, so that nobody asks all the time.
            wait_s = (1 - left) * _MINUTE_S / most if most else _MINUTE_S
            raise QuotaExceeded(
                f"{name!r} has had as many servers started within a minute as it may, {most:g}. "
                f"Try again in {wait_s:.0f} s, or have starts_per_minute raised.",
                limit="starts",
                most=int(most),
                retry_after=wait_s,
            )
        self._starts[name] = self._now(), left - 1

    def _left(self, name: str, most: float) -> float:
        """Return the starts that a caller may have at present (a token bucket of `most`)."""
        at, left = self._starts.get(name, (self._now(), most))
        return min(left + (self._now() - at) * most / _MINUTE_S, most)


_PLURALS = {"holds": "holds", "waiting": "waiting calls", "streams": "open streams"}
