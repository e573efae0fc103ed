"""Offers: what an Ensure would do now, and what it would cost. Pure values and functions.

An offer is for the front of a fleet, which asks several pools before it places a model. It is made
by the rules that admit servers (`admission.verdict`), for a server that would come last in the
queue; `offering.py` reads the state for it.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from pool_service.core.admission import (
    Admit,
    Capacity,
    Demand,
    ExceedsShare,
    NeverFits,
    PreemptFirst,
    PreemptionClass,
    Resident,
    Verdict,
    Wait,
    verdict,
)
from pool_service.core.errors import PoolError
from pool_service.core.types import FOREVER, Estimate, MemorySample, Settings


class OfferVerdict(Enum):
    """Says what an Ensure would do."""

    WARM = "the model has a server that is READY, or on its way to be"
    FITS = "a server would be started at once"
    EVICTS = "a server would be started once unused ones are stopped for it"
    WAITS = "the call would wait for others, or for the end of the model's last server"
    NEVER = "the call would fail"


@dataclass(frozen=True, slots=True)
class Offer:
    """Says what an Ensure would do, and what it would cost. Sizes in bytes.

    runtime_model: what the runtime would load.
    on_disk: all files that the load needs are on disk; None if unknown.
    usual_load_s: the seconds that earlier loads took; None if unknown.
    needed: what its server is expected to need at most; 0 if unknown.
    free: what no server takes or is expected to take; None: no limit.
    evicted: what the servers take that would be stopped for it.
    evictable: what all servers take that may be stopped for other models.
    error: with which the call would fail, if the verdict is NEVER.
    revision: of the state of which all this is said.
    listed: the catalogue lists the model.
    queued: the starts that wait before it in the queue.
    """

    verdict: OfferVerdict
    model: str
    runtime_model: str
    on_disk: bool | None = None
    usual_load_s: float | None = None
    needed: int = 0
    free: int | None = None
    evicted: int = 0
    evictable: int = 0
    error: PoolError | None = None
    revision: int = 0
    listed: bool = False
    queued: int = 0


@dataclass(frozen=True, slots=True)
class LookNeeded:
    """Asks for a look at a model's files; settings: what the model would be started with.

    wants_sample: the last memory sample is not fresh.
    """

    model: str
    settings: Settings
    wants_sample: bool


@dataclass(frozen=True, slots=True)
class Look:
    """Holds what was found for a LookNeeded.

    settings: of which the estimate is. estimate: or the error with which it failed.
    sample: a newer memory sample; None: none was taken in time.
    """

    settings: Settings
    estimate: Estimate | PoolError
    sample: MemorySample | None


@dataclass(frozen=True, slots=True)
class InQueue:
    """A queued server; resident: as it is once it starts."""

    demand: Demand
    resident: Resident


def foresee(
    demand: Demand, ahead: Iterable[InQueue], capacity: Capacity, slots: int, now: float
) -> Verdict:
    """Return the verdict of a server that would come last in the queue, as the scheduler finds it.

    ahead: those before it in the queue, in their order. slots: how many may start.
    """
    own = verdict(demand, capacity, now)
    if isinstance(own, NeverFits | ExceedsShare):
        return own
    for one in ahead:
        if slots <= 0:
            break
        match verdict(one.demand, capacity, now):
            case Admit():
                capacity, slots = _after_start(capacity, one), slots - 1
            case PreemptFirst(may_backfill=False) | Wait(may_backfill=False):
                return Wait("its turn", may_backfill=False)
            case _:
                pass
    if slots <= 0:
        return Wait("others to start", may_backfill=False)
    return verdict(demand, capacity, now)


def _after_start(capacity: Capacity, started: InQueue) -> Capacity:
    """Return the capacity once a queued server has started."""
    demand, residents = started.demand, (*capacity.residents(), started.resident)
    account = [] if demand.account is None else [demand.account.name]
    return replace(
        capacity,
        reserved=capacity.reserved + demand.needed,
        growth=capacity.growth + demand.needed,
        residents=lambda: residents,
        taken=Counter(capacity.taken) + Counter(demand.groups),
        reserved_by=Counter(capacity.reserved_by) + Counter(dict.fromkeys(account, demand.needed)),
    )


def free(capacity: Capacity) -> int | None:
    """Return the bytes that no server takes or is expected to take; None: no limit."""
    of_machine = capacity.available - capacity.growth
    left = min(capacity.budget - capacity.reserved, of_machine)
    return None if left == FOREVER else max(int(left), 0)


def evictable(residents: Iterable[Resident]) -> int:
    """Return the bytes of all servers that may be stopped for other models."""
    kinds = PreemptionClass.UNUSED, PreemptionClass.BUSY
    return sum(one.candidate.freed for one in residents if one.preemption_class in kinds)


def with_verdict(offer: Offer, decided: Verdict, capacity: Capacity) -> Offer:
    """Return an offer to wait, or one to start if the verdict is that the model fits or may."""
    match decided:
        case Admit():
            return replace(offer, verdict=OfferVerdict.FITS)
        case PreemptFirst(servers):
            ids, residents = set(servers), capacity.residents()
            going = [one.candidate for one in residents if one.candidate.server_id in ids]
            evicted = sum(one.freed for one in going)
            return replace(offer, verdict=OfferVerdict.EVICTS, evicted=evicted)
        case _:
            return offer
