"""Quotas: limits the holds, waiting calls, streams and starts of each caller."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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

    def start(self, principal: Principal) -> None:
        """Count the start of a server for a caller. Raises QuotaExceeded."""
        most = principal.limits.starts_per_minute
        if most == FOREVER:
            return
        left = self._left(principal.name, most)
        if left < 1:
            raise QuotaExceeded(
                f"{principal.name!r} has had as many servers started within a minute as it may, "
                f"{most:g}. Try again later, or have starts_per_minute raised.",
                limit="starts",
                most=int(most),
                retry_after=(1 - left) * _MINUTE_S / most,
            )
        self._starts[principal.name] = self._now(), left - 1

    def refund(self, principal: Principal) -> None:
        """Take a start back that came to nothing, as another caller's was joined."""
        most = principal.limits.starts_per_minute
        if most < FOREVER and principal.name in self._starts:
            left = min(self._left(principal.name, most) + 1, most)
            self._starts[principal.name] = self._now(), left

    def _left(self, name: str, most: float) -> float:
        """Return the starts that a caller may have at present (a token bucket of `most`)."""
        at, left = self._starts.get(name, (self._now(), most))
        return min(left + (self._now() - at) * most / _MINUTE_S, most)

    def forget_all_but(self, names: frozenset[str]) -> None:
        """Forget the starts of callers that are not known any more."""
        self._starts = {name: value for name, value in self._starts.items() if name in names}


_PLURALS = {"holds": "holds", "waiting": "waiting calls", "streams": "open streams"}
