"""Quotas: limits the holds, waiting calls, streams and starts of each caller."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pool_service.access.principal import Principal
from pool_service.core.errors import QuotaExceeded
from pool_service.core.types import FOREVER

RETRY_AFTER_S = 1.0
"""The time after which a caller may try again that has too many calls open."""

_MINUTE_S = 60.0

_WHAT_TO_DO = {
    "holds": "Release one",
    "waiting": "Wait until one has its answer",
    "streams": "Close one",
}


@dataclass(slots=True)
class Start:
    """A start that is counted. came_about: set it to False if the call has started nothing."""

    came_about: bool = True


class Quotas:
    """Counts what each caller has open, and how many servers it has had started lately.

    now: the time in seconds, from any beginning.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._open: Counter[tuple[str, str]] = Counter()
        self._starts: dict[str, tuple[float, float]] = {}

    @contextmanager
    def open(self, principal: Principal, limit: str) -> Iterator[None]:
        """Count one more of what a limit bounds, until the block ends.

        limit: holds, waiting or streams. Raises QuotaExceeded.
        """
        most = getattr(principal.limits, limit)
        if most == FOREVER:
            yield
            return
        key = principal.name, limit
        if self._open[key] >= most:
            raise QuotaExceeded(
                f"{principal.name!r} has as many {_PLURALS[limit]} as it may, {most:g}. "
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
        """Count the start of a server for a caller, unless it turns out that none came about.

        Raises QuotaExceeded.
        """
        start = Start()
        most = principal.limits.starts_per_minute
        if most == FOREVER:
            yield start
            return
        self._take(principal.name, most)
        yield start
        if not start.came_about:
            left = min(self._left(principal.name, most) + 1, most)
            self._starts[principal.name] = self._now(), left

    def _take(self, name: str, most: float) -> None:
        left = self._left(name, most)
        if left < 1:
            raise QuotaExceeded(
                f"{name!r} has had as many servers started within a minute as it may, {most:g}. "
                "Try again later, or have starts_per_minute raised.",
                limit="starts",
                most=int(most),
                # Nothing may be started ever: a minute, so that it is not asked all the time.
                retry_after=(1 - left) * _MINUTE_S / most if most else _MINUTE_S,
            )
        self._starts[name] = self._now(), left - 1

    def _left(self, name: str, most: float) -> float:
        """Return the starts that a caller may have at present (a token bucket of `most`)."""
        at, left = self._starts.get(name, (self._now(), most))
        return min(left + (self._now() - at) * most / _MINUTE_S, most)


_PLURALS = {"holds": "holds", "waiting": "waiting calls", "streams": "open streams"}
