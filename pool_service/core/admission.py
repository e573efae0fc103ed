"""Admission: whether one more server fits, and what to do if it does not. Pure functions.

A server's *reservation* is the larger of its estimate and its peak. A model fits if
1. all reservations together with its own estimate are within the memory budget, and
2. its estimate, and all that the other servers may still grow by, is available on the machine, and
3. the reservations of its account together with its estimate are within the account's share of the
   budget, if it has one.

Stopping a server frees its reservation in all sums: its footprint becomes available, and its
possible growth no longer has to be.

To *preempt* a server is to stop it for another model, as soon as it is unused. To *evict* a server
is to stop it for a caller of Evict, or for a shutdown: see `evictions.py`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from pool_service.core.preemption_policy import Candidate, in_order, victims
from pool_service.core.server import ServerId
from pool_service.core.types import Account

STARVATION_LIMIT_S = 10.0
"""The time after which a queued model may preempt busy servers. Their callers then wait behind it;
before that, they go on using them."""


class PreemptionClass(Enum):
    """The class of a server that takes up memory: whether, and how readily, it is preempted."""

    LEAVING = auto()
    """Ends already, or is being evicted."""
    PROTECTED = auto()
    """Held or pinned: never preempted."""
    STARTING = auto()
    """Starting: not preempted before it is READY."""
    BUSY = auto()
    """Busy at the last idle check: preempted only for a model that has waited long, and once it is
    unused."""
    UNUSED = auto()
    """Not known to be busy: may be preempted, if two idle checks then find it unused."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A server that takes up memory.

    resides_until: the end of its grace period. account: to which its memory counts; empty: to none.
    """

    candidate: Candidate
    preemption_class: PreemptionClass
    groups: tuple[str, ...]
    resides_until: float
    account: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """The capacity of the pool at one moment. Sizes in bytes; FOREVER: no limit.

    budget: the memory budget of the pool.
    reserved, growth: the reservations of all residents, and what they may still grow by.
    available: the memory of the machine that servers may still take.
    returning: a process ended so lately that its memory may not be available yet.
    residents: a function, since they are needed only if the demand does not fit.
    taken, groups: the number of residents of each group, and its limit.
    reserved_by: the reservations of the residents of each account.
    """

    budget: float
    reserved: int
    growth: int
    available: float
    returning: bool
    residents: Callable[[], tuple[Resident, ...]]
    taken: Mapping[str, int]
    groups: Mapping[str, int]
    reserved_by: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """A queued model.

    needed: bytes. waited: seconds in the queue.
    account: to which it counts; None: to none, so that no share limits it.
    """

    model: str
    needed: int
    groups: tuple[str, ...]
    waited: float
    account: Account | None = None


@dataclass(frozen=True, slots=True)
class Admit:
    """Start the model: it fits."""


@dataclass(frozen=True, slots=True)
class PreemptFirst:
    """Preempt these servers: the model fits once they are gone.

    may_backfill: models behind it in the queue may start before it.
    """

    servers: tuple[ServerId, ...]
    why: str
    may_backfill: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Let the model wait: preempting would not help now.

    may_backfill: models behind it in the queue may start before it.
    """

    why: str
    may_backfill: bool


@dataclass(frozen=True, slots=True)
class NeverFits:
    """Fail the start: the model needs more than the whole budget."""


@dataclass(frozen=True, slots=True)
class ExceedsShare:
    """Fail the start: the model needs more than its account's share, which is `most` bytes."""

    most: int


Verdict = Admit | PreemptFirst | Wait | NeverFits | ExceedsShare


def verdict(demand: Demand, capacity: Capacity, now: float) -> Verdict:
    """Return whether a model starts, waits or never fits, or which servers it preempts.

    No more servers are preempted than needed, from the first of these sets that is enough:
    1. unused servers past their grace period;
    2. all unused servers;
    3. all unused and busy servers, once the model has waited for STARVATION_LIMIT_S.

    For an account, those of each set that count to it come before the whole set.
    """
    if demand.needed > capacity.budget:
        return NeverFits()
    if demand.account is not None and demand.needed > _share(demand.account, capacity):
        return ExceedsShare(int(_share(demand.account, capacity)))
    short = shortage(demand, capacity)
    if short.is_none:
        return Admit()
    residents = capacity.residents()
    leaving = _of_class(residents, PreemptionClass.LEAVING)
    if short.without(leaving).is_none:
        own = short.of_it_alone(leaving)
        return Wait(f"{_names(own, demand.model)} to be gone", may_backfill=short.is_of_share_only)
    if capacity.returning and short.is_of_machine_only:
        return Wait("the memory of a server that is gone to come back", may_backfill=False)
    return _preempt_or_wait(demand, residents, short.without(leaving), now)


def overrun(capacity: Capacity, now: float) -> tuple[ServerId, ...]:
    """Return the servers to preempt because the budget or the limit of a group is exceeded.

    Only unused servers past their grace period; if they are not enough, all that help.
    """
    groups = {
        group: count - capacity.groups[group]
        for group, count in capacity.taken.items()
        if count > capacity.groups.get(group, count)
    }
    short = Shortage(capacity.reserved - capacity.budget, 0, groups)
    if short.is_none:
        return ()
    residents = capacity.residents()
    leaving = _of_class(residents, PreemptionClass.LEAVING)
    short = short.without(leaving)
    if short.is_none:
        return ()
    past_grace = _past_grace(residents, now)
    chosen = _chosen(past_grace, short, now)
    if chosen is None:
        frees_help = short.bytes > 0
        chosen = [one for one in past_grace if frees_help or short.groups.keys() & set(one.groups)]
    return tuple(one.candidate.server_id for one in chosen)


def cheapest_unused(capacity: Capacity, now: float) -> tuple[ServerId, ...]:
    """Return the unused server of the lowest retention value, past its grace period; or nothing."""
    past_grace = _past_grace(capacity.residents(), now)
    return tuple(one.candidate.server_id for one in _cheapest(past_grace, 1, now) or ())


def preemption_order(residents: tuple[Resident, ...], now: float) -> list[Resident]:
    """Return the servers that may be preempted, in the order in which they are for little memory.

    As by `verdict`: unused ones past their grace period, other unused ones, then busy ones; of each
    of these by the preemption policy.
    """
    order: list[Resident] = []
    for choice in _choices(residents, now):
        by_id = {one.candidate.server_id: one for one in choice}
        for one in order:
            by_id.pop(one.candidate.server_id)
        left = in_order([one.candidate for one in by_id.values()], now)
        order += [by_id[one.server_id] for one in left]
    return order


def _choices(residents: tuple[Resident, ...], now: float) -> Iterator[list[Resident]]:
    """Yield the sets of servers from which those to preempt are chosen, each within the next."""
    yield _past_grace(residents, now)
    unused = _of_class(residents, PreemptionClass.UNUSED)
    yield unused
    yield unused + _of_class(residents, PreemptionClass.BUSY)


def _choices_for(
    demand: Demand, residents: tuple[Resident, ...], now: float
) -> Iterator[list[Resident]]:
    """Yield the sets of `_choices` for a demand: before each, its servers of the same account."""
    for choice in _choices(residents, now):
        if demand.account is not None:
            yield [one for one in choice if one.account == demand.account.name]
        yield choice


def _share(account: Account, capacity: Capacity) -> float:
    """Return the bytes of the budget that an account may take up."""
    return account.memory_share * capacity.budget


def _past_grace(residents: tuple[Resident, ...], now: float) -> list[Resident]:
    """Return the unused residents past their grace period."""
    unused = _of_class(residents, PreemptionClass.UNUSED)
    return [one for one in unused if one.resides_until <= now]


def _of_class(residents: Iterable[Resident], *classes: PreemptionClass) -> list[Resident]:
    """Return the residents of these classes."""
    return [one for one in residents if one.preemption_class in classes]


@dataclass(frozen=True, slots=True)
class Shortage:
    """The shortage of a demand: bytes of the budget, bytes of the machine, and places in groups.

    of_share: bytes of the share of `account`, which only servers of this account free.
    """

    of_budget: float
    of_machine: float
    groups: Mapping[str, int]
    of_share: float = 0
    account: str = ""

    @property
    def bytes(self) -> float:
        """The number of bytes that have to be freed, by any servers."""
        return max(self.of_budget, self.of_machine, 0)

    @property
    def is_none(self) -> bool:
        """Whether the demand fits."""
        return not self.bytes and not self.groups and self.of_share <= 0

    @property
    def is_of_machine_only(self) -> bool:
        """Whether only the machine's available memory is short."""
        is_budgeted = self.of_budget <= 0 >= self.of_share
        return self.of_machine > 0 and is_budgeted and not self.groups

    @property
    def is_of_share_only(self) -> bool:
        """Whether only the account's share is short, so that others need not wait for it."""
        return self.of_share > 0 and not self.bytes and not self.groups

    def of_it_alone(self, residents: list[Resident]) -> list[Resident]:
        """Return those of residents whose end may help."""
        if not self.is_of_share_only:
            return residents
        return [one for one in residents if one.account == self.account]

    def without(self, gone: list[Resident]) -> "Shortage":
        """Return the shortage after these residents have gone."""
        freed = sum(one.candidate.freed for one in gone)
        groups = dict(self.groups)
        for one in gone:
            for group in one.groups:
                if group in groups:
                    groups[group] -= 1
        left = {group: count for group, count in groups.items() if count > 0}
        own = sum(one.candidate.freed for one in gone if one.account == self.account)
        return Shortage(
            self.of_budget - freed,
            self.of_machine - freed,
            left,
            self.of_share - own if self.account else 0,
            self.account,
        )


def shortage(demand: Demand, capacity: Capacity) -> Shortage:
    """Return what a demand lacks if no server goes."""
    groups = {}
    for group in demand.groups:
        there = capacity.taken.get(group, 0)
        excess = there + 1 - capacity.groups.get(group, there + 1)
        if excess > 0:
            groups[group] = excess
    of_budget = capacity.reserved + demand.needed - capacity.budget
    of_machine = demand.needed + capacity.growth - capacity.available
    if demand.account is None:
        return Shortage(of_budget, of_machine, groups)
    own = capacity.reserved_by.get(demand.account.name, 0)
    of_share = own + demand.needed - _share(demand.account, capacity)
    return Shortage(of_budget, of_machine, groups, of_share, demand.account.name)


def _preempt_or_wait(
    demand: Demand, residents: tuple[Resident, ...], short: Shortage, now: float
) -> Verdict:
    for choice in _choices_for(demand, residents, now):
        chosen = _chosen(choice, short, now)
        if chosen is None:
            continue
        if demand.waited >= STARVATION_LIMIT_S or not _of_class(chosen, PreemptionClass.BUSY):
            ids = tuple(one.candidate.server_id for one in chosen)
            return PreemptFirst(ids, _why(chosen, now), may_backfill=short.is_of_share_only)
        busy = short.of_it_alone(_of_class(residents, PreemptionClass.BUSY))
        return Wait(f"{_names(busy)} to be less busy", may_backfill=True)
    starting = short.of_it_alone(_of_class(residents, PreemptionClass.STARTING))
    if demand.waited >= STARVATION_LIMIT_S and not short.is_of_share_only:
        kinds = PreemptionClass.UNUSED, PreemptionClass.BUSY, PreemptionClass.STARTING
        if _chosen(_of_class(residents, *kinds), short, now) is not None:
            # If models behind it could backfill now, they would keep it from starting for ever.
            return Wait(f"{_names(starting)} to have started", may_backfill=False)
    kept = starting + short.of_it_alone(_of_class(residents, PreemptionClass.PROTECTED))
    why = f"{_names(kept)} to go, which the pool does not preempt" if kept else "memory"
    return Wait(why, may_backfill=True)


def _chosen(choice: list[Resident], short: Shortage, now: float) -> list[Resident] | None:
    """Return the cheapest of `choice` that end the shortage, or None if all would not."""
    chosen: list[Resident] = []
    while lacking := short.without(chosen).groups:
        group = next(iter(lacking))
        members = [one for one in choice if group in one.groups and one not in chosen]
        cheapest = _cheapest(members, 1, now)
        if cheapest is None:
            return None
        chosen += cheapest
    own = [one for one in choice if one.account == short.account and one not in chosen]
    of_share = _cheapest(own, short.without(chosen).of_share, now)
    if of_share is None:
        return None
    chosen += of_share
    needed = short.without(chosen).bytes
    more = _cheapest([one for one in choice if one not in chosen], needed, now)
    return None if more is None else chosen + more


def _cheapest(choice: list[Resident], needed: float, now: float) -> list[Resident] | None:
    """Return the cheapest of `choice` that free `needed` bytes, or None if all would not.

    needed: minus infinity, if there is no limit.
    """
    if needed <= 0:
        return []
    by_id = {one.candidate.server_id: one for one in choice}
    found = victims([one.candidate for one in choice], math.ceil(needed), now)
    return None if found is None else [by_id[one.server_id] for one in found]


def _why(chosen: list[Resident], now: float) -> str:
    busy = PreemptionClass.BUSY
    in_use = [one for one in chosen if one.preemption_class is busy or one.resides_until > now]
    return f"{_names(in_use)} to be unused" if in_use else f"{_names(chosen)} to go"


def _names(residents: list[Resident], model: str = "") -> str:
    """Name at most three residents; one of `model` itself by its generation."""
    ids = [one.candidate.server_id for one in residents[:3]]
    own = {one for one in ids if one.model == model}
    names = [f"{one.model!r}" + f" (generation {one.generation})" * (one in own) for one in ids]
    more = f" and {len(residents) - 3} more" if len(residents) > 3 else ""  # noqa: PLR2004
    return ", ".join(names) + more
