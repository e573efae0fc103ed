"""What a server that would come last in the queue finds, by values."""

from dataclasses import replace

import pytest

from pool_service.core.admission import (
    Admit,
    Demand,
    ExceedsShare,
    NeverFits,
    PreemptFirst,
    PreemptionClass,
    Verdict,
    Wait,
)
from pool_service.core.offer import (
    InQueue,
    Offer,
    OfferVerdict,
    evictable,
    foresee,
    free,
    with_verdict,
)
from pool_service.core.server import ServerId
from pool_service.core.types import FOREVER, Account
from tests.core.test_admission import ENGINE, NOW, asked, capacity, resident

STARTING = PreemptionClass.STARTING


def in_queue(model: str, size: int, waited: float = 0.0, *groups: str) -> InQueue:
    started = resident(model, size, STARTING, groups=groups)
    return InQueue(Demand(model, size, groups, waited), started)


def foreseen(needed: int, *ahead: InQueue, slots: int = 8, **has: float) -> Verdict:
    return foresee(asked(needed), ahead, capacity(**has), slots, NOW)


def test_an_empty_queue_leaves_the_verdict_of_the_admission() -> None:
    there = capacity(resident("a", 6))
    assert foresee(asked(4), (), there, 8, NOW) == Admit()
    assert isinstance(foresee(asked(5), (), there, 8, NOW), PreemptFirst)


def test_those_before_it_take_their_memory_first() -> None:
    assert foreseen(4, in_queue("a", 3), in_queue("b", 3)) == Admit()
    assert isinstance(foreseen(5, in_queue("a", 3), in_queue("b", 3)), Wait)


def test_those_before_it_take_the_memory_of_the_machine_first() -> None:
    assert foreseen(4, in_queue("a", 3), budget=100, available=7) == Admit()
    assert isinstance(foreseen(5, in_queue("a", 3), budget=100, available=7), Wait)


def test_those_before_it_take_the_slots_first() -> None:
    ahead = in_queue("a", 1), in_queue("b", 1)
    assert foreseen(1, *ahead, slots=3) == Admit()
    assert isinstance(foreseen(1, *ahead, slots=2), Wait)
    assert isinstance(foreseen(1, slots=0), Wait)


def test_those_before_it_take_the_places_of_their_groups_first() -> None:
    mine = asked(1, groups=("g",))
    assert foresee(mine, (), capacity(), 8, NOW) == Admit()
    ahead = (in_queue("a", 1, 0.0, "g"),)
    assert isinstance(foresee(mine, ahead, capacity(), 8, NOW), Wait)


def test_those_before_it_take_their_share_of_its_account_first() -> None:
    one = in_queue("a", 3)
    ahead = replace(one, demand=replace(one.demand, account=ENGINE))
    assert foresee(asked(2, account=ENGINE), (ahead,), capacity(), 8, NOW) == Admit()
    assert isinstance(foresee(asked(3, account=ENGINE), (ahead,), capacity(), 8, NOW), Wait)


def test_nobody_passes_one_that_preempts_others() -> None:
    there = capacity(resident("a", 6))
    waits = foresee(asked(1), (in_queue("b", 5),), there, 8, NOW)
    assert isinstance(waits, Wait)


def test_one_that_waits_for_held_servers_is_passed() -> None:
    there = capacity(resident("a", 6, PreemptionClass.PROTECTED))
    assert foresee(asked(4), (in_queue("b", 5),), there, 8, NOW) == Admit()


def test_one_that_has_waited_for_long_is_not_passed_while_a_server_starts_before_it() -> None:
    """As the scheduler does: the one that has just started may go once it is READY."""
    first, starved = in_queue("a", 6), in_queue("b", 5, 60.0)
    assert isinstance(foreseen(1, first, starved), Wait)
    assert foreseen(1, first, in_queue("b", 5)) == Admit()


@pytest.mark.parametrize("slots", [0, 8])
def test_what_never_fits_is_refused_though_nothing_may_start_now(slots: int) -> None:
    assert foresee(asked(11), (), capacity(), slots, NOW) == NeverFits()
    mine = asked(6, account=ENGINE)
    assert foresee(mine, (), capacity(), slots, NOW) == ExceedsShare(5)


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({"budget": 10.0, "available": FOREVER}, 4),
        ({"budget": 100.0, "available": 7.0}, 5),
        ({"budget": FOREVER, "available": 7.0}, 5),
        ({"budget": FOREVER, "available": FOREVER}, None),
        ({"budget": 5.0, "available": 7.0}, 0),
        ({"budget": 10.0, "available": 1.0}, 0),
    ],
)
def test_free_is_what_the_budget_and_the_machine_leave_after_all_growth(
    has: dict[str, float], expected: int | None
) -> None:
    there = replace(capacity(resident("a", 6), **has), growth=2)
    assert free(there) == expected


def test_evictable_are_servers_that_nothing_protects() -> None:
    sizes = dict(zip(PreemptionClass, (1, 2, 4, 8, 16), strict=True))
    there = [resident(kind.name, size, kind) for kind, size in sizes.items()]
    assert evictable(there) == sizes[PreemptionClass.BUSY] + sizes[PreemptionClass.UNUSED]


def test_what_is_evicted_counts_by_what_its_end_frees() -> None:
    there = capacity(resident("a", 3), resident("b", 4))
    offer = Offer(OfferVerdict.WAITS, "m", "org/m")
    going = PreemptFirst((ServerId("b", 1),), "it goes")
    evicts = with_verdict(offer, going, there)
    assert (evicts.verdict, evicts.evicted) == (OfferVerdict.EVICTS, 4)
    assert with_verdict(offer, Admit(), there).verdict is OfferVerdict.FITS
    assert with_verdict(offer, Wait("it waits", may_backfill=True), there) == offer


def test_an_account_without_a_limit_is_like_none() -> None:
    assert foresee(asked(10, account=Account("all", 1.0)), (), capacity(), 8, NOW) == Admit()
