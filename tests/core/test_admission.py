"""Whether there is capacity, and who goes for it, by values."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core.admission import (
    STARVATION_LIMIT_S,
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
    _why,
    cheapest_unused,
    preemption_order,
    verdict,
)
from pool_service.core.preemption_policy import Candidate
from pool_service.core.server import ServerId
from pool_service.core.types import FOREVER, Account

NOW = 1000.0


def resident(
    model: str,
    size: int,
    preemption_class: PreemptionClass = PreemptionClass.UNUSED,
    *,
    uses: float = 1.0,
    resides_until: float = 0.0,
    groups: tuple[str, ...] = (),
    account: str = "",
) -> Resident:
    candidate = Candidate(
        server_id=ServerId(model, 1),
        freed=size,
        load_seconds=5.0,
        last_used_at=NOW - 100,
        uses=uses,
    )
    return Resident(candidate, preemption_class, groups, resides_until, account)


def capacity(*residents: Resident, budget: float = 10, available: float = FOREVER) -> Capacity:
    reserved = sum(one.candidate.freed for one in residents)
    taken = Counter(group for one in residents for group in one.groups)
    by: Counter[str] = Counter()
    for one in residents:
        by[one.account] += one.candidate.freed
    return Capacity(budget, reserved, 0, available, False, lambda: residents, taken, {"g": 1}, by)


def asked(
    needed: int,
    *,
    waited: float = 0.0,
    groups: tuple[str, ...] = (),
    account: Account | None = None,
) -> Demand:
    return Demand("new", needed, groups, waited, account)


ENGINE = Account("engine", 0.5)
"""May take up half of the budget."""


def own(
    model: str, size: int, preemption_class: PreemptionClass = PreemptionClass.UNUSED
) -> Resident:
    """Return a resident that counts to the engine's account."""
    return resident(model, size, preemption_class, account=ENGINE.name)


def goes(decided: Verdict) -> set[str]:
    assert isinstance(decided, PreemptFirst)
    return {server_id.model for server_id in decided.servers}


def test_what_fits_is_admitted_to_the_last_byte() -> None:
    assert verdict(asked(4), capacity(resident("a", 6)), NOW) == Admit()
    assert goes(verdict(asked(5), capacity(resident("a", 6)), NOW)) == {"a"}


def test_what_needs_more_than_the_budget_never_fits_though_the_pool_is_empty() -> None:
    assert verdict(asked(11), capacity(), NOW) == NeverFits()


def test_no_more_go_than_needed() -> None:
    there = capacity(resident("a", 2), resident("b", 3), resident("c", 5))
    assert len(goes(verdict(asked(2), there, NOW))) == 1
    assert goes(verdict(asked(5), there, NOW)) == {"c"}


def test_the_growth_that_others_are_expected_to_have_is_not_given_away() -> None:
    there = replace(capacity(available=6), growth=2)
    assert verdict(asked(4), there, NOW) == Admit()
    waits = verdict(asked(5), there, NOW)
    assert isinstance(waits, Wait)
    assert "memory" in waits.why


def test_memory_that_others_took_is_made_up_by_evictions() -> None:
    there = capacity(resident("a", 3), budget=100, available=1)
    assert goes(verdict(asked(4), there, NOW)) == {"a"}


def test_who_is_leaving_already_is_waited_for_before_anybody_else_goes() -> None:
    there = capacity(resident("a", 5, PreemptionClass.LEAVING), resident("b", 5))
    waits = verdict(asked(5), there, NOW)
    assert waits == Wait("'a' to be gone", may_backfill=False)
    assert goes(verdict(asked(6), there, NOW)) == {"b"}


def test_memory_that_is_on_its_way_back_is_waited_for() -> None:
    there = replace(capacity(resident("a", 3), budget=100, available=1), returning=True)
    waits = verdict(asked(4), there, NOW)
    assert isinstance(waits, Wait)
    assert not waits.may_backfill


def test_who_was_just_handed_out_goes_only_if_nobody_else_would_do() -> None:
    fresh = resident("fresh", 5, resides_until=NOW + 3, uses=0.1)
    there = capacity(fresh, resident("old", 5, uses=50))
    assert goes(verdict(asked(5), there, NOW)) == {"old"}
    assert goes(verdict(asked(6), there, NOW)) == {"old", "fresh"}


def test_only_those_in_use_are_told_as_what_has_to_be_unused() -> None:
    fresh, old = resident("fresh", 5, resides_until=NOW + 3), resident("old", 5)
    assert _why([fresh, old], NOW) == "'fresh' to be unused"
    assert _why([old], NOW) == "'old' to go"


def test_who_is_busy_goes_only_for_one_that_has_waited_for_its_turn() -> None:
    there = capacity(
        resident("a", 6, PreemptionClass.BUSY), resident("b", 4, PreemptionClass.PROTECTED)
    )
    waits = verdict(asked(6, waited=STARVATION_LIMIT_S - 0.1), there, NOW)
    assert waits == Wait("'a' to be less busy", may_backfill=True)
    assert goes(verdict(asked(6, waited=STARVATION_LIMIT_S), there, NOW)) == {"a"}


@pytest.mark.parametrize("waited", [0.0, 1e6])
def test_who_is_held_or_starting_never_goes_and_others_may_pass(waited: float) -> None:
    there = capacity(
        resident("a", 6, PreemptionClass.PROTECTED), resident("b", 4, PreemptionClass.PROTECTED)
    )
    waits = verdict(asked(6, waited=waited), there, NOW)
    assert isinstance(waits, Wait)
    assert waits.may_backfill
    assert "'a', 'b'" in waits.why


def test_of_a_group_only_so_many_are_there_at_a_time() -> None:
    one = resident("a", 1, groups=("g",), uses=99)
    there = capacity(one, resident("b", 1), budget=100)
    assert verdict(asked(1), there, NOW) == Admit()
    assert goes(verdict(asked(1, groups=("g",)), there, NOW)) == {"a"}
    held = capacity(
        replace(one, preemption_class=PreemptionClass.PROTECTED), resident("b", 1), budget=100
    )
    waits = verdict(asked(1, groups=("g",)), held, NOW)
    assert isinstance(waits, Wait)
    assert waits.may_backfill


def test_a_member_that_goes_for_its_group_counts_for_the_memory_as_well() -> None:
    one = resident("a", 6, groups=("g",))
    there = capacity(one, resident("b", 4, uses=0.0))
    assert goes(verdict(asked(6, groups=("g",)), there, NOW)) == {"a"}


def test_of_servers_of_unequal_sizes_the_one_goes_first_that_is_missed_least() -> None:
    # By the byte "large" is worth less, but most of its memory would not be needed at once.
    small, large = resident("small", 1, uses=1.0), resident("large", 8, uses=6.4)
    told = preemption_order((small, large), NOW)
    assert [one.candidate.server_id.model for one in told] == ["small", "large"]
    small, large = resident("small", 1, uses=1.0), resident("large", 8, uses=3.0)
    told = preemption_order((small, large), NOW)
    assert [one.candidate.server_id.model for one in told] == ["large", "small"]


_residents = st.lists(
    st.builds(
        resident,
        st.uuids().map(str),
        st.integers(1, 8),
        st.sampled_from(PreemptionClass),
        uses=st.floats(0, 100),
        resides_until=st.sampled_from([0.0, NOW + 5]),
        groups=st.sampled_from([(), ("g",)]),
    ),
    max_size=8,
).map(tuple)


@given(residents=_residents)
def test_the_order_that_is_told_is_the_one_in_which_servers_go_for_little_memory(
    residents: tuple[Resident, ...],
) -> None:
    left = [one for one in residents if one.preemption_class is not PreemptionClass.LEAVING]
    for told in preemption_order(residents, NOW):
        full = capacity(*left, budget=sum(one.candidate.freed for one in left))
        first = told.candidate.server_id
        assert goes(verdict(asked(1, waited=1e3), full, NOW)) == {first.model}
        is_past_grace = told.resides_until <= NOW
        if told.preemption_class is PreemptionClass.UNUSED and is_past_grace:
            assert cheapest_unused(full, NOW) == (first,)
        left.remove(told)
    assert {one.preemption_class for one in left} <= {
        PreemptionClass.PROTECTED,
        PreemptionClass.STARTING,
    }


@given(
    residents=_residents,
    needed=st.integers(0, 12),
    groups=st.sampled_from([(), ("g",)]),
    waited=st.sampled_from([0.0, 1e3]),
    available=st.sampled_from([0.0, 3.0, 8.0, FOREVER]),
)
def test_after_the_evictions_it_fits_and_nobody_went_who_must_not(
    residents: tuple[Resident, ...],
    needed: int,
    groups: tuple[str, ...],
    waited: float,
    available: float,
) -> None:
    there = capacity(*residents, budget=20, available=available)
    demand = asked(needed, waited=waited, groups=groups)
    decided = verdict(demand, there, NOW)
    if not isinstance(decided, PreemptFirst):
        return
    gone = [one for one in residents if one.candidate.server_id in decided.servers]
    may_go = (
        {PreemptionClass.UNUSED, PreemptionClass.BUSY}
        if waited >= STARVATION_LIMIT_S
        else {PreemptionClass.UNUSED}
    )
    assert {one.preemption_class for one in gone} <= may_go
    leaving = [one for one in residents if one.preemption_class is PreemptionClass.LEAVING]
    freed = sum(one.candidate.freed for one in gone + leaving)
    left = [one for one in residents if one not in gone + leaving]
    after = replace(capacity(*left, budget=20), available=available + freed)
    assert verdict(demand, after, NOW) == Admit()


# --- shares of the memory ---------------------------------------------------------------


def test_what_needs_more_than_its_accounts_share_never_fits_though_the_pool_is_empty() -> None:
    assert verdict(asked(5, account=ENGINE), capacity(), NOW) == Admit()
    assert verdict(asked(6, account=ENGINE), capacity(), NOW) == ExceedsShare(5)
    assert verdict(asked(6), capacity(), NOW) == Admit()


def test_a_full_share_is_freed_by_its_own_servers_alone_though_others_would_be_cheaper() -> None:
    there = capacity(own("mine", 3), resident("other", 3, uses=0.01))
    assert goes(verdict(asked(3, account=ENGINE), there, NOW)) == {"mine"}
    assert verdict(asked(2, account=ENGINE), there, NOW) == Admit()


def test_servers_of_other_accounts_do_not_count_to_a_share() -> None:
    there = capacity(resident("theirs", 5, account="another"))
    assert verdict(asked(5, account=ENGINE), there, NOW) == Admit()


def test_an_account_that_needs_room_gives_up_its_own_unused_servers_first() -> None:
    there = capacity(own("mine", 2), resident("other", 8, uses=0.01))
    assert goes(verdict(asked(2, account=ENGINE), there, NOW)) == {"mine"}
    assert goes(verdict(asked(2), there, NOW)) == {"other"}


def test_if_its_own_servers_are_too_few_those_of_others_go_as_for_everybody() -> None:
    there = capacity(own("mine", 1), resident("other", 9))
    assert goes(verdict(asked(4, account=ENGINE), there, NOW)) == {"other"}


def test_what_frees_the_share_counts_to_the_budget_as_well() -> None:
    there = capacity(own("mine", 4), resident("small", 1), resident("large", 5, uses=9.0))
    assert goes(verdict(asked(5, account=ENGINE), there, NOW)) == {"mine", "small"}


@pytest.mark.parametrize(
    "kept", [PreemptionClass.PROTECTED, PreemptionClass.STARTING, PreemptionClass.LEAVING]
)
def test_who_waits_for_a_share_keeps_nobody_else_from_starting(kept: PreemptionClass) -> None:
    there = capacity(own("mine", 4, kept), resident("other", 1))
    for waited in (0.0, STARVATION_LIMIT_S):
        waits = verdict(asked(2, account=ENGINE, waited=waited), there, NOW)
        assert isinstance(waits, Wait)
        assert waits.may_backfill
        assert "'mine'" in waits.why
        assert "other" not in waits.why


def test_own_busy_servers_go_for_a_share_only_after_a_long_wait() -> None:
    there = capacity(own("mine", 4, PreemptionClass.BUSY), resident("other", 1))
    soon = verdict(asked(2, account=ENGINE), there, NOW)
    assert soon == Wait("'mine' to be less busy", may_backfill=True)
    late = verdict(asked(2, account=ENGINE, waited=STARVATION_LIMIT_S), there, NOW)
    assert goes(late) == {"mine"}
    assert isinstance(late, PreemptFirst)
    assert late.may_backfill


def test_where_the_budget_is_short_too_a_share_is_no_reason_to_let_others_pass() -> None:
    there = capacity(own("mine", 4, PreemptionClass.LEAVING), resident("other", 6))
    waits = verdict(asked(4, account=ENGINE), there, NOW)
    assert waits == Wait("'mine' to be gone", may_backfill=False)


def test_without_a_budget_a_share_is_no_limit() -> None:
    assert verdict(asked(99, account=ENGINE), capacity(budget=FOREVER), NOW) == Admit()


def test_without_a_budget_others_go_for_a_group_whatever_the_share() -> None:
    one = resident("a", 6, groups=("g",))
    there = capacity(one, resident("b", 4), budget=FOREVER)
    assert goes(verdict(asked(6, groups=("g",), account=ENGINE), there, NOW)) == {"a"}
