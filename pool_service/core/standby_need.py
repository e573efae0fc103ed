"""Standby need: how many models started together lately, so that as many standbys are kept."""

from collections import deque
from collections.abc import Set as AbstractSet

from pool_service.core.types import FOREVER

BURST_GAP_S = 5.0
"""The time without a start after which the next one begins a new burst. A standby that a start took
is replaced only while nothing starts, at low priority, which takes two seconds and more."""

NEED_MEMORY_S = 600.0
"""The time for which a burst is remembered: twice the default keep alive, so that models that
started together, and ended together when they were idle, find standbys when they come back."""


class StandbyNeed:
    """Remember the bursts of the last NEED_MEMORY_S seconds.

    A burst is a number of starts between which there is no time to make new standbys. It counts
    models rather than starts: one model that crashes again and again needs no more than one.
    """

    def __init__(self) -> None:
        # Of the last burst.
        self._models: set[str] = set()
        # FOREVER while something is on its way.
        self._calm_since = -FOREVER
        # The time and size of each burst, as far as no later one was as large.
        self._bursts: deque[tuple[float, int]] = deque()

    def note(self, starting: AbstractSet[str], now: float, *, is_calm: bool) -> None:
        """Note the models that start at present; is_calm: nothing is on its way."""
        if starting and now - self._calm_since >= BURST_GAP_S:
            self._models = set()
        if starting - self._models:
            self._models |= starting
            self._add(len(self._models), now)
        if not is_calm:
            self._calm_since = FOREVER
        elif self._calm_since == FOREVER:
            self._calm_since = now

    def _add(self, size: int, now: float) -> None:
        while self._bursts and self._bursts[-1][1] <= size:
            self._bursts.pop()
        self._bursts.append((now, size))

    def largest(self, now: float) -> int:
        """Return the size of the largest burst that is remembered; 0: none is."""
        while self._bursts and self._bursts[0][0] + NEED_MEMORY_S <= now:
            self._bursts.popleft()
        return self._bursts[0][1] if self._bursts else 0

    def forgets_at(self) -> float:
        """Return when the largest burst is forgotten; FOREVER if none is remembered."""
        return self._bursts[0][0] + NEED_MEMORY_S if self._bursts else FOREVER
