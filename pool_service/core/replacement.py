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

    def worth(one: Candidate) -> tuple[float, float, str]:
        return one.uses * one.load_seconds, one.last_used_at - now, one.model

    def density(one: Candidate) -> tuple[float, float, str]:
        return worth(one)[0] / max(one.freed, 1), *worth(one)[1:]

    chosen: list[Candidate] = []
    for one in sorted(candidates, key=density):
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
