"""Which servers are preempted: for a queued one, past a limit, and while memory is short."""

from dataclasses import replace

import pytest

from pool_service.core.admission import STARVATION_LIMIT_S
from pool_service.core.capacity import RETURN_TIME_S
from pool_service.core.commands import CheckActivity, Prepare
from pool_service.core.errors import ModelRejected
from pool_service.core.results import Ensured
from pool_service.core.sampler import CALM_S
from pool_service.core.scheduler import SHORT_OF_MEMORY
from pool_service.core.server import Phase
from tests.core.parts import (
    DEFAULTS,
    LOADED_AT,
    M1,
    NOW,
    Parts,
    answers,
    of_kind,
    sample,
    started,
)


def preempted(parts: Parts) -> dict[str, str | None]:
    """Return which servers are to go, and for which model each."""
    rows = [one for one in parts.state.table if one.is_preempted]
    return {one.server.model: one.preempted_for for one in rows}


# --- who goes for it ------------------------------------------------------------------------


def full(parts: Parts, needed: int = 6) -> None:
    """Let a model wait for which `a` (6 of 10) has to go."""
    parts.there("a", expected=6)
    parts.queued("m", needed)
    parts.queued("n", needed=1)


def test_who_is_unused_is_looked_at_before_it_goes_for_the_first_who_waits() -> None:
    parts = Parts(memory_budget=10)
    full(parts)
    parts.sampled()
    parts.scheduler.schedule(NOW)
    issued = parts.taken()
    assert [one.server_id.model for one in of_kind(issued, CheckActivity)] == ["a"]
    assert preempted(parts) == {"a": "m"}
    assert of_kind(issued, Prepare) == [], "nobody passes one who is about to get room"
    assert parts.shown("n").detail == "waits for its turn"


def test_who_was_just_handed_out_is_looked_at_when_its_residency_is_over() -> None:
    parts = Parts(memory_budget=10)
    full(parts)
    row = parts.state.table.current("a")
    assert row is not None
    parts.state.put_unpublished(replace(row.server, last_used_at=NOW))
    parts.sampled()
    parts.scheduler.schedule(NOW)
    assert of_kind(parts.taken(), CheckActivity) == []
    assert preempted(parts) == {"a": "m"}
    assert parts.state.deadlines.next() == NOW + DEFAULTS.grace_period


def test_who_need_not_go_any_more_is_handed_out_again_to_those_who_waited_for_it() -> None:
    parts = Parts(memory_budget=10)
    full(parts)
    started(parts)
    parts.waits(5, "a")
    parts.state.fail_waiters("m", ModelRejected("no"))
    parts.state.drop(parts.shown("m"))
    parts.taken()
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == {}
    assert answers(parts.taken()) == {5: Ensured(parts.shown("a"), started=False)}


def test_who_is_evicted_meanwhile_is_handed_out_to_nobody() -> None:
    parts = Parts(memory_budget=10)
    full(parts)
    started(parts)
    parts.waits(5, "a")
    row = parts.state.table.current("a")
    assert row is not None
    parts.evicts(9, row)
    parts.state.drop(parts.shown("m"))
    parts.taken()
    parts.scheduler.schedule(NOW)
    assert answers(parts.taken()) == {}


@pytest.mark.parametrize(
    ("waited", "goes"), [(STARVATION_LIMIT_S - 0.1, {}), (STARVATION_LIMIT_S, {"a": "m"})]
)
def test_who_is_busy_is_to_go_for_one_that_has_waited_for_long(
    waited: float, goes: dict[str, str]
) -> None:
    parts = Parts(memory_budget=10)
    full(parts)
    row = parts.state.table.current("a")
    assert row is not None
    row.busy_until = NOW + 60.0
    parts.state.queue[M1] = NOW - waited
    started(parts)
    assert preempted(parts) == goes


def test_whether_the_busy_still_are_is_looked_at_when_their_pause_is_over() -> None:
    for busy_until, looks in ((NOW + 0.1, 0), (NOW, 1)):
        parts = Parts(memory_budget=10)
        full(parts)
        row = parts.state.table.current("a")
        assert row is not None
        row.busy_until = busy_until
        parts.sampled()
        parts.scheduler.schedule(NOW)
        assert len(of_kind(parts.taken(), CheckActivity)) == looks


def test_memory_of_what_is_just_gone_is_waited_for_before_anybody_goes() -> None:
    for ago, goes in ((RETURN_TIME_S - 0.1, {}), (RETURN_TIME_S, {"a": "m"})):
        parts = Parts()
        full(parts)
        parts.state.gone_at = NOW - ago
        parts.sampled(sample(available=11))
        parts.scheduler.schedule(NOW)
        assert preempted(parts) == goes


# --- more is taken than is allowed ----------------------------------------------------------


@pytest.mark.parametrize(("grown", "goes"), [(10, {}), (11, {"a": None})])
def test_past_the_budget_what_is_missed_least_goes_for_nobody_in_particular(
    grown: int, goes: dict[str, None]
) -> None:
    parts = Parts(memory_budget=10)
    parts.there("a", expected=3)
    parts.there("b", expected=grown - 3)
    parts.holds(7, "b")
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == goes


def test_past_the_limit_of_a_group_one_of_it_goes() -> None:
    grouped = replace(DEFAULTS, groups=("g",))
    parts = Parts(groups={"g": 1})
    parts.there("a")
    parts.there("b", settings=replace(grouped, runtime_model="b"))
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == {}
    parts.there("c", settings=replace(grouped, runtime_model="c"), last_used_at=LOADED_AT + 1)
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == {"b": None}


def test_past_the_budget_nobody_goes_while_what_is_leaving_makes_up_for_it() -> None:
    parts = Parts(memory_budget=10)
    parts.there("leaving", Phase.STOPPING, expected=3)
    parts.there("a", expected=8)
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == {}


def test_past_the_budget_all_that_is_unused_goes_though_even_that_is_too_little() -> None:
    parts = Parts(memory_budget=10)
    parts.there("held", expected=20)
    parts.holds(7, "held")
    parts.there("a", expected=1)
    parts.there("just used", expected=1, last_used_at=NOW)
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == {"a": None}


def test_what_no_longer_fits_into_a_smaller_budget_is_dropped_in_its_turn() -> None:
    parts = Parts(memory_budget=10)
    parts.queued(needed=6)
    parts.state.limits = replace(parts.state.limits, memory_budget=5)
    assert started(parts) == []
    assert parts.server() is None
    assert len(parts.state.waiters) == 0


@pytest.mark.parametrize(
    ("limit", "is_held", "goes"), [(8, False, {"m": "m"}), (8, True, {}), (9, False, {})]
)
def test_what_has_grown_past_its_own_limit_goes_for_itself_unless_it_is_held(
    limit: int, is_held: bool, goes: dict[str, str]
) -> None:
    parts = Parts(defaults=replace(DEFAULTS, memory_limit=limit))
    parts.there(footprint=9, peak=9, spawned_at=900.0, ready_at=901.0)
    parts.state.recycle_in_place.add(M1)
    if is_held:
        parts.holds(7)
    parts.scheduler.schedule(NOW)
    assert preempted(parts) == goes
    assert (M1 in parts.state.recycle_in_place) is (limit == 8)


# --- a machine short of memory --------------------------------------------------------------

PRESSED = replace(sample(), pressured=True)
CRITICAL = replace(PRESSED, critical=True)


def test_short_of_memory_the_one_that_is_missed_least_goes_and_nobody_starts() -> None:
    parts = Parts()
    parts.there("a")
    parts.there("b", last_used_at=LOADED_AT + 1)
    parts.queued(needed=4)
    parts.sampled(PRESSED)
    assert started(parts) == []
    assert preempted(parts) == {"a": None}
    assert parts.shown().detail == f"waits for {SHORT_OF_MEMORY}"


@pytest.mark.parametrize(("ago", "goes"), [(CALM_S - 0.1, {}), (CALM_S, {"a": None})])
def test_after_one_has_gone_the_machine_has_time_to_recover(
    ago: float, goes: dict[str, None]
) -> None:
    parts = Parts()
    parts.there("a")
    parts.queued(needed=4)
    parts.state.gone_at = NOW - ago
    parts.sampled(PRESSED)
    assert started(parts) == []
    assert preempted(parts) == goes


@pytest.mark.parametrize(("said", "starts"), [(PRESSED, ["m"]), (CRITICAL, [])])
def test_where_nobody_can_go_only_a_critical_word_keeps_others_from_starting(
    said: object, starts: list[str]
) -> None:
    parts = Parts()
    parts.there("held")
    parts.holds(7, "held")
    parts.queued(needed=4)
    parts.sampled(CRITICAL if said is CRITICAL else PRESSED)
    assert started(parts) == starts


def test_where_nothing_runs_a_critical_word_hinders_nobody() -> None:
    parts = Parts()
    parts.there("failed", Phase.FAILED)
    parts.queued(needed=4)
    parts.sampled(CRITICAL)
    assert started(parts) == ["m"]
