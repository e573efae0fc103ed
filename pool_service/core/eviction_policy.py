"""Who goes when room is needed: a pure function of how models were used and what they cost.

Keeping a model is worth the time that its next load would take, times how likely it is to
be asked for again soon. The likelihood is told by its uses, of which each counts less as time
passes (as in LRFU, Lee et al. 2001), and that on two scales: what was popular for hours comes
back after a pause, and what became popular minutes ago need not wait for hours to count. Of
all choices that free enough, the one whose members are worth least together goes (as in
GreedyDual-Size, Cao and Irani 1997, value counts per byte). `tools/bench/replacement.py` compares
it with other rules.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pool_service.core.server import ServerId

SOON = 600.0
"""Seconds after which a use counts half of what it did."""

LONG = 14_400.0
"""The same for what is remembered longer."""

LONG_SHARE = 1 / 6
"""How much a use counts in the longer memory. A model that is asked for evenly has LONG / SOON
times as many uses there, so that it counts four times as much as the short one."""


SPARE_SHARE = 0.8
"""How much of the price of a byte counts for one that is freed beyond the need: somebody will
need it, but not at once."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that could go.

    freed: bytes that come back, at least 1; load_seconds: what loading it again takes; uses: what
    `Uses.count` says now.
    """

    server_id: ServerId
    freed: int
    load_seconds: float
    last_used_at: float
    uses: float


@dataclass(frozen=True, slots=True)
class Uses:
    """How often a model was used, as of the moment `at` (seconds)."""

    at: float
    soon: float = 0.0
    long: float = 0.0

    def used(self, now: float) -> "Uses":
        """With one more use."""
        return Uses(
            now, self._later(self.soon, now, SOON) + 1, self._later(self.long, now, LONG) + 1
        )

    def count(self, now: float) -> float:
        """How much they count: in proportion to how likely the next one is."""
        soon, long = self._later(self.soon, now, SOON), self._later(self.long, now, LONG)
        return soon + LONG_SHARE * long

    def _later(self, count: float, now: float, half_life: float) -> float:
        return count * math.exp2(-max(now - self.at, 0.0) / half_life)


def victims(
    candidates: Iterable[Candidate], needed: int, now: float
) -> tuple[Candidate, ...] | None:
    """Those that are missed least of all that free `needed` bytes; None if all do not.

    None of them is superfluous: without any one of them it would not be enough.
    """
    choice = list(candidates)
    together = _cheapest_by_the_byte(choice, needed)
    if together is None:
        return None
    alone = [(one,) for one in choice if one.freed >= needed]
    price = max((worth(one) / one.freed for one in together), default=0.0)
    return min([*alone, together], key=lambda option: _loss(option, needed, price, now))


def _cheapest_by_the_byte(choice: list[Candidate], needed: int) -> tuple[Candidate, ...] | None:
    chosen: list[Candidate] = []
    for one in sorted(choice, key=lambda one: (worth(one) / one.freed, one.server_id)):
        if sum(other.freed for other in chosen) >= needed:
            break
        chosen.append(one)
    if sum(one.freed for one in chosen) < needed:
        return None
    for one in sorted(chosen, key=worth, reverse=True):
        rest = [other for other in chosen if other is not one]
        if sum(other.freed for other in rest) >= needed:
            chosen = rest
    return tuple(chosen)


def worth(one: Candidate) -> float:
    """Return how many seconds keeping a server is worth."""
    return one.uses * one.load_seconds


def _loss(
    option: tuple[Candidate, ...], needed: int, price: float, now: float
) -> tuple[float, float, int, list[ServerId]]:
    """What is lost with these; equal losses are told apart by their use, size and names.

    price: seconds that a byte is worth; those that are freed beyond the need save the next.
    """
    freed = sum(one.freed for one in option)
    lost = sum(map(worth, option)) - SPARE_SHARE * price * (freed - needed)
    recency = -sum(now - one.last_used_at for one in option)
    return lost, recency, freed, sorted(one.server_id for one in option)
