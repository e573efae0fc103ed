"""Who goes when room is needed: a pure function of how models were used and what they cost.

Keeping a model is worth the time that its next load would take, times how likely it is to
be asked for again soon. The likelihood is its decayed count of uses: each counts one, and
half of that after HALF_LIFE, so that it tells popularity and recency at once (as in LRFU,
Lee et al. 2001). Of all choices that free enough, the one whose members are worth least
together goes (as in GreedyDual-Size, Cao and Irani 1997, value counts per byte).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

HALF_LIFE = 600.0
"""Seconds after which a use counts half."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A server that could go.

    freed: bytes that come back; load_seconds: what loading it again takes; uses: its
    decayed count of uses, as of now.
    """

    model: str
    freed: int
    load_seconds: float
    last_used_at: float
    uses: float


def decayed(uses: float, since: float) -> float:
    """What a count of uses is worth `since` seconds later."""
    return uses * math.exp2(-max(since, 0.0) / HALF_LIFE)


def victims(
    candidates: Iterable[Candidate], needed: int, now: float
) -> tuple[Candidate, ...] | None:
    """Those that are missed least of all that free `needed` bytes; None if all do not.

    None of them is superfluous: without any one of them it would not be enough.
    """
    choice = list(candidates)
    alone = [(one,) for one in choice if one.freed >= needed]
    together = _cheapest_by_the_byte(choice, needed)
    options = [*alone, *([together] if together is not None else [])]
    return min(options, key=lambda option: _loss(option, now), default=None)


def _cheapest_by_the_byte(choice: list[Candidate], needed: int) -> tuple[Candidate, ...] | None:
    chosen: list[Candidate] = []
    for one in sorted(choice, key=lambda one: (_worth(one) / max(one.freed, 1), one.model)):
        if sum(other.freed for other in chosen) >= needed:
            break
        chosen.append(one)
    if sum(one.freed for one in chosen) < needed:
        return None
    for one in sorted(chosen, key=_worth, reverse=True):
        rest = [other for other in chosen if other is not one]
        if sum(other.freed for other in rest) >= needed:
            chosen = rest
    return tuple(chosen)


def _worth(one: Candidate) -> float:
    """Seconds that keeping it is worth."""
    return one.uses * one.load_seconds


def _loss(option: tuple[Candidate, ...], now: float) -> tuple[float, float, int, list[str]]:
    """What is lost with these; equal losses are told apart by their use, size and names."""
    recency = -sum(now - one.last_used_at for one in option)
    freed = sum(one.freed for one in option)
    return sum(map(_worth, option)), recency, freed, sorted(one.model for one in option)
