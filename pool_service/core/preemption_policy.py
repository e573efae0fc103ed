"""Preemption policy: which servers to preempt for a number of bytes. Pure functions.

The retention value of a server is the time that its next load would take, times the likelihood
that its model is used again soon. Past uses tell the likelihood: each counts less as time passes
(as in LRFU, Lee et al. 2001), with two half-lives, so that a model that was popular for hours
comes back after a pause, and one that became popular minutes ago counts soon. Of all sets that
free enough, the one with the lowest total value is preempted; value is compared per byte (as in
GreedyDual-Size, Cao and Irani 1997). `tools/bench/replacement.py` compares it with other policies.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pool_service.core.server import ServerId

SHORT_HALF_LIFE_S = 600.0
"""The half-life of a use in the short-term count: ten minutes."""

LONG_HALF_LIFE_S = 14_400.0
"""The half-life of a use in the long-term count: four hours."""

LONG_WEIGHT = 1 / 6
"""The weight of the long-term count. A model that is used evenly has LONG_HALF_LIFE_S /
SHORT_HALF_LIFE_S = 24 times as many uses there, so that it weighs four times the short-term one."""

SPARE_SHARE = 0.8
"""The share of its price at which a byte freed beyond the need is credited: another model will
need it, but not at once."""

ORDERED = 16
"""The number of servers that `in_order` orders exactly. Each takes a look at all that are left, and
describing one of 500 models is to take a millisecond or two."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that may be preempted.

    freed: bytes that its end frees, at least 1.
    load_seconds: the duration of its next load.
    uses: its model's `Uses.count` now.
    """

    server_id: ServerId
    freed: int
    load_seconds: float
    last_used_at: float
    uses: float


@dataclass(frozen=True, slots=True)
class Uses:
    """The decaying numbers of a model's uses, short-term and long-term, as of `at` (seconds)."""

    at: float
    soon: float = 0.0
    long: float = 0.0

    def used(self, now: float) -> "Uses":
        """Return the counts with one more use at `now`."""
        soon = self._later(self.soon, now, SHORT_HALF_LIFE_S)
        long = self._later(self.long, now, LONG_HALF_LIFE_S)
        return Uses(now, soon + 1, long + 1)

    def count(self, now: float) -> float:
        """Return the weighted number of uses, in proportion to the likelihood of the next one."""
        soon = self._later(self.soon, now, SHORT_HALF_LIFE_S)
        long = self._later(self.long, now, LONG_HALF_LIFE_S)
        return soon + LONG_WEIGHT * long

    def _later(self, count: float, now: float, half_life: float) -> float:
        return count * math.exp2(-max(now - self.at, 0.0) / half_life)


def victims(
    candidates: Iterable[Candidate], needed: int, now: float
) -> tuple[Candidate, ...] | None:
    """Return the cheapest set of servers to preempt that frees `needed` bytes, or None.

    No member of the set is superfluous: without any one of them it would free too little.
    None: all candidates together free less than `needed`.
    """
    choice = list(candidates)
    together = _cheapest_by_the_byte(choice, needed)
    if together is None:
        return None
    alone = [(one,) for one in choice if one.freed >= needed]
    price = max((worth(one) / one.freed for one in together), default=0.0)
    return min([*alone, together], key=lambda option: _loss(option, needed, price, now))


def in_order(candidates: Sequence[Candidate], now: float) -> list[Candidate]:
    """Return the servers in the order in which they go, each for a single byte.

    That is the order for models that need little, one after the other. One that needs more may
    choose several at once, or a larger one. Beyond the first ORDERED, which is more than anybody
    reads, they follow by their retention value by the byte alone.
    """
    # As `victims` chooses, but a pool of hundreds of servers is not to be held up.
    by_the_byte = sorted(
        ((worth(one), one) for one in candidates),
        key=lambda entry: (entry[0] / entry[1].freed, entry[1].server_id),
    )
    order: list[Candidate] = []
    while by_the_byte and len(order) < ORDERED:
        lowest, cheapest = by_the_byte[0]
        price = lowest / cheapest.freed
        losses = [_value_lost(value, one.freed - 1, price) for value, one in by_the_byte]
        least = min(losses)
        ties = [place for place, loss in enumerate(losses) if loss == least]
        first = min(ties, key=lambda place: _tie_breaker(by_the_byte[place][1], now))
        order.append(by_the_byte.pop(first)[1])
    return order + [one for _, one in by_the_byte]


def _tie_breaker(one: Candidate, now: float) -> tuple[float, int, ServerId]:
    return one.last_used_at - now, one.freed, one.server_id


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
    """Return the retention value of a server in seconds."""
    return one.uses * one.load_seconds


def _value_lost(worths: float, spare: int, price: float) -> float:
    """Return the seconds lost with servers that are worth so much, and free `spare` bytes too many.

    price: seconds a byte, of which these are credited at SPARE_SHARE.
    """
    return worths - SPARE_SHARE * price * spare


def _loss(
    option: tuple[Candidate, ...], needed: int, price: float, now: float
) -> tuple[float, float, int, list[ServerId]]:
    """Return the loss of preempting a set, and tie-breakers: last use, bytes freed, and ids.

    price: see `_value_lost`.
    """
    freed = sum(one.freed for one in option)
    lost = _value_lost(sum(map(worth, option)), freed - needed, price)
    recency = -sum(now - one.last_used_at for one in option)
    return lost, recency, freed, sorted(one.server_id for one in option)
