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

    A burst is a series of starts without BURST_GAP_S in which nothing starts, so that no new
    standbys were made between them. It counts models rather than starts: one model that crashes
    again and again needs no more than one.
    """

    def __init__(self) -> None:
        # The models of the present burst.
        self._models: set[str] = set()
        # Since when nothing starts; FOREVER while something does.
        self._none_starting_since = -FOREVER
        # (time, size) of past bursts, sizes falling.
        self._bursts: deque[tuple[float, int]] = deque()

    def note(self, starting: AbstractSet[str], now: float, *, starts_any: bool) -> None:
        """Note the models that start at present; starts_any: something is on its way."""
        if starting and now - self._none_starting_since >= BURST_GAP_S:
            self._models = set()
        if starting - self._models:
            self._models |= starting
            self._add(len(self._models), now)
        if starts_any:
            self._none_starting_since = FOREVER
        elif self._none_starting_since == FOREVER:
            self._none_starting_since = now

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
