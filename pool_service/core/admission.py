"""Whether there is room for one more server, and what to do if there is not: pure.

A server takes up its *reservation*: what it was seen to take at most, or, until it was
looked at, what it is expected to need. A model fits if both hold
- the reservations and what it needs are within the budget;
- what it needs, and what the others may still grow by, is available on the machine.

An eviction gives back one reservation in both sums: what the server takes becomes
available, and what it might have grown by is no longer to be kept for it.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from pool_service.core.eviction_policy import Candidate, victims
from pool_service.core.server import ServerId

STARVATION_LIMIT_S = 10.0
"""Seconds for which a model that waits lets those that are busy be asked for again. After
that, whoever asks for them waits behind it, so that its turn comes."""


class EvictionClass(Enum):
    """How a server that takes up room stands to an eviction."""

    LEAVING = auto()
    """It is on its way out."""
    FIXED = auto()
    """It is held or pinned, and not to be evicted."""
    COMING = auto()
    """It is starting: it may have to go, but not before it is READY."""
    BUSY = auto()
    """It was found at work when it was last looked at."""
    UNUSED = auto()
    """As far as is known it could go."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A server that takes up room; resides_until: before that it does not go."""

    candidate: Candidate
    eviction_class: EvictionClass
    groups: tuple[str, ...]
    resides_until: float


@dataclass(frozen=True, slots=True)
class Room:
    """The room there is. Bytes; FOREVER where there is no limit.

    growth: what the residents may still grow by; available: what the machine has left for
    servers; returning: memory of servers that are gone may not be available yet; residents:
    asked for only where room lacks, since they are many; taken: how many of them count for
    each group; groups: how many may.
    """

    budget: float
    reserved: int
    growth: int
    available: float
    returning: bool
    residents: Callable[[], tuple[Resident, ...]]
    taken: Mapping[str, int]
    groups: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """A model that wants to start, for so many seconds already."""

    model: str
    needed: int
    groups: tuple[str, ...]
    waited: float


@dataclass(frozen=True, slots=True)
class Admit:
    """It fits."""


@dataclass(frozen=True, slots=True)
class EvictFirst:
    """It fits when these are gone."""

    servers: tuple[ServerId, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """It cannot be helped now; passable: those behind it may try."""

    why: str
    may_backfill: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """It never fits."""


Verdict = Admit | EvictFirst | Wait | Refuse


def verdict(demand: Demand, room: Room, now: float) -> Verdict:
    """What is to be done for one model that wants to start.

    The unused go first, and those that were just handed out (`grace_period`) last; who is
    busy only for one that has waited for PATIENCE. No more are evicted than needed.
    """
    if demand.needed > room.budget:
        return Refuse()
    short = shortage(demand, room)
    if short.is_none:
        return Admit()
    residents = room.residents()
    leaving = [one for one in residents if one.eviction_class is EvictionClass.LEAVING]
    if short.without(leaving).is_none:
        return Wait(f"{_names(leaving, demand.model)} to be gone", may_backfill=False)
    if room.returning and short.is_of_machine_only:
        return Wait("the memory of a server that is gone to come back", may_backfill=False)
    return _make_room(demand, residents, short.without(leaving), now)


def overrun(room: Room, now: float) -> tuple[ServerId, ...]:
    """Return the servers to let go since more is taken than the budget and the groups allow.

    Only what is unused and was not just handed out; all of it where even that is too little.
    """
    groups = {
        group: count - room.groups[group]
        for group, count in room.taken.items()
        if count > room.groups.get(group, count)
    }
    short = Shortage(room.reserved - room.budget, 0, groups)
    if short.is_none:
        return ()
    residents = room.residents()
    short = short.without([one for one in residents if one.eviction_class is EvictionClass.LEAVING])
    if short.is_none:
        return ()
    unused = [one for one in residents if one.eviction_class is EvictionClass.UNUSED]
    settled = [one for one in unused if one.resides_until <= now]
    chosen = _chosen(settled, short, now)
    if chosen is None:
        helps = short.bytes > 0
        chosen = [one for one in settled if helps or short.groups.keys() & set(one.groups)]
    return tuple(one.candidate.server_id for one in chosen)


def cheapest_unused(room: Room, now: float) -> tuple[ServerId, ...]:
    """Return the one server that is missed least of those that are unused, if there is any."""
    residents = room.residents()
    unused = [one for one in residents if one.eviction_class is EvictionClass.UNUSED]
    settled = [one for one in unused if one.resides_until <= now]
    return tuple(one.candidate.server_id for one in _cheapest(settled, 1, now) or ())


@dataclass(frozen=True, slots=True)
class Shortage:
    """What lacks: bytes, of which kind, and how many must go of each group."""

    of_budget: float
    of_machine: float
    groups: Mapping[str, int]

    @property
    def bytes(self) -> float:
        """How many bytes must come free."""
        return max(self.of_budget, self.of_machine, 0)

    @property
    def is_none(self) -> bool:
        """Whether nothing lacks."""
        return not self.bytes and not self.groups

    @property
    def is_of_machine_only(self) -> bool:
        """Whether there is room but for what others have taken of the machine."""
        return self.of_machine > 0 >= self.of_budget and not self.groups

    def without(self, gone: list[Resident]) -> "Shortage":
        """What lacks when these are gone."""
        freed = sum(one.candidate.freed for one in gone)
        groups = dict(self.groups)
        for one in gone:
            for group in one.groups:
                if group in groups:
                    groups[group] -= 1
        left = {group: count for group, count in groups.items() if count > 0}
        return Shortage(self.of_budget - freed, self.of_machine - freed, left)


def shortage(demand: Demand, room: Room) -> Shortage:
    """What lacks for it, if nobody goes."""
    groups = {}
    for group in demand.groups:
        there = room.taken.get(group, 0)
        excess = there + 1 - room.groups.get(group, there + 1)
        if excess > 0:
            groups[group] = excess
    of_budget = room.reserved + demand.needed - room.budget
    of_machine = demand.needed + room.growth - room.available
    return Shortage(of_budget, of_machine, groups)


def _make_room(
    demand: Demand, residents: tuple[Resident, ...], short: Shortage, now: float
) -> Verdict:
    unused = [one for one in residents if one.eviction_class is EvictionClass.UNUSED]
    settled = [one for one in unused if one.resides_until <= now]
    busy = [one for one in residents if one.eviction_class is EvictionClass.BUSY]
    for choice in (settled, unused, unused + busy):
        chosen = _chosen(choice, short, now)
        if chosen is None:
            continue
        if choice is settled or choice is unused or demand.waited >= STARVATION_LIMIT_S:
            return EvictFirst(tuple(one.candidate.server_id for one in chosen), _why(chosen, now))
        return Wait(f"{_names(busy)} to be less busy", may_backfill=True)
    coming = [one for one in residents if one.eviction_class is EvictionClass.COMING]
    if (
        demand.waited >= STARVATION_LIMIT_S
        and _chosen(unused + busy + coming, short, now) is not None
    ):
        # Else those that pass it would always be in its way, each in its turn.
        return Wait(f"{_names(coming)} to have started", may_backfill=False)
    kept = coming + [one for one in residents if one.eviction_class is EvictionClass.FIXED]
    why = f"{_names(kept)} to go, which the pool does not evict" if kept else "memory"
    return Wait(why, may_backfill=True)


def _chosen(choice: list[Resident], short: Shortage, now: float) -> list[Resident] | None:
    """Which of them are to go; None if even all of them would not do."""
    chosen: list[Resident] = []
    while lacking := short.without(chosen).groups:
        group = next(iter(lacking))
        members = [one for one in choice if group in one.groups and one not in chosen]
        cheapest = _cheapest(members, 1, now)
        if cheapest is None:
            return None
        chosen += cheapest
    needed = math.ceil(short.without(chosen).bytes)
    more = _cheapest([one for one in choice if one not in chosen], needed, now)
    return None if more is None else chosen + more


def _cheapest(choice: list[Resident], needed: int, now: float) -> list[Resident] | None:
    """Those that are missed least of all that free so many bytes; None if all do not."""
    if needed <= 0:
        return []
    by_id = {one.candidate.server_id: one for one in choice}
    found = victims([one.candidate for one in choice], needed, now)
    return None if found is None else [by_id[one.server_id] for one in found]


def _why(chosen: list[Resident], now: float) -> str:
    resting = [
        one for one in chosen if one.resides_until > now or one.eviction_class is EvictionClass.BUSY
    ]
    return f"{_names(resting or chosen)} to be unused" if resting else f"{_names(chosen)} to go"


def _names(residents: list[Resident], model: str = "") -> str:
    """Name at most three residents; one of `model` itself by its generation."""
    ids = [one.candidate.server_id for one in residents[:3]]
    own = {one for one in ids if one.model == model}
    names = [f"{one.model!r}" + f" (generation {one.generation})" * (one in own) for one in ids]
    more = f" and {len(residents) - 3} more" if len(residents) > 3 else ""  # noqa: PLR2004
    return ", ".join(names) + more
