"""The replacement of servers that have grown past their memory limit."""

from dataclasses import replace

import pytest

from pool_service.core.activity import Activity
from pool_service.core.commands import Prepare, RecordLoad, SendSignal
from pool_service.core.events import BecameReady
from pool_service.core.server import Cause, Phase, Role, StopSignal
from pool_service.core.table import Row
from tests.core.parts import DEFAULTS, M1, M2, NOW, Field, Parts, kinds, of_kind, sample

LIMITED = replace(DEFAULTS, memory_limit=8)


def grown(parts: Parts, footprint: int = 9, **changes: Field) -> Row:
    """Return a READY server that takes so much, where 8 are allowed; it runs for long."""
    load: dict[str, Field] = {"spawned_at": 900.0, "ready_at": 901.0}
    return parts.there(footprint=footprint, peak=footprint, expected=8, **load | changes)


def limited(**limits: Field) -> Parts:
    parts = Parts(defaults=LIMITED, **limits)
    parts.sampled()
    return parts


# --- a successor beside it ------------------------------------------------------------------


def test_if_both_fit_a_successor_starts_beside_the_server_that_has_grown() -> None:
    parts = limited(memory_budget=17, backoff_max=30.0)
    row = grown(parts)
    parts.recycler.review(row, NOW)
    successor = parts.shown(generation=2)
    assert (successor.role, successor.phase) == (Role.SUCCESSOR, Phase.PREPARING)
    assert parts.shown() == row.server
    assert (row.server.phase, row.server.successor_generation) == (Phase.READY, 2)
    assert of_kind(parts.taken(), Prepare) == [Prepare(M2, successor.settings)]
    assert row.recycle_after == NOW + 30.0


@pytest.mark.parametrize(
    "parts",
    [limited(memory_budget=16), limited(max_starts=0)],
    ids=["one byte short", "no start is free"],
)
def test_if_no_successor_fits_beside_it_its_activity_is_checked(parts: Parts) -> None:
    parts.recycler.review(grown(parts), NOW)
    assert kinds(parts.taken()) == ["CheckActivity"]
    assert parts.server(generation=2) is None


def test_a_successor_passes_no_queued_server() -> None:
    parts = limited()
    row = grown(parts)
    parts.queued("n", needed=1)
    parts.recycler.review(row, NOW)
    assert parts.server(generation=2) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"footprint": 8},
        {"outdated": True},
        # It has not run for ten times as long as it loads.
        {"spawned_at": 900.0, "ready_at": 910.0},
    ],
    ids=["at its limit", "outdated", "just loaded"],
)
def test_what_has_not_grown_too_large_for_long_enough_goes_on(changes: dict[str, Field]) -> None:
    parts = limited()
    row = grown(parts, **changes)
    parts.state.recycle_in_place.add(M1)
    parts.recycler.review(row, NOW)
    assert parts.taken() == []
    assert parts.state.recycle_in_place == set()


def test_one_successor_at_a_time_and_after_a_failed_one_there_is_a_pause() -> None:
    parts = limited(backoff_max=30.0)
    row = grown(parts)
    parts.recycler.review(row, NOW)
    parts.taken()
    parts.recycler.review(row, NOW)
    assert parts.taken() == []
    parts.state.drop(parts.shown(generation=2))
    parts.taken()
    parts.recycler.review(row, NOW + 29.9)
    assert parts.taken() == []
    parts.recycler.review(row, NOW + 30.0)
    assert parts.shown(generation=3).role is Role.SUCCESSOR


# --- in its place ---------------------------------------------------------------------------


def test_what_is_unused_and_too_large_is_to_go_for_itself_and_what_is_busy_is_not() -> None:
    parts = limited()
    row = grown(parts)
    parts.recycler.on_activity_reported(row, Activity(1), NOW)
    assert parts.state.recycle_in_place == set()
    parts.recycler.on_activity_reported(row, Activity(0), NOW)
    assert parts.state.recycle_in_place == {M1}
    assert parts.state.capacity_changed
    parts.recycler.on_activity_reported(row, Activity(None), NOW)
    assert parts.state.recycle_in_place == set()


def test_what_has_a_successor_beside_it_does_not_go_for_itself() -> None:
    parts = limited()
    row = grown(parts)
    parts.recycler.review(row, NOW)
    row.recycle_after = 0.0
    parts.recycler.on_activity_reported(row, Activity(0), NOW)
    assert parts.state.recycle_in_place == set()


# --- taking over ----------------------------------------------------------------------------


def replacing(parts: Parts) -> tuple[Row, Row]:
    """Return a server that has grown, and its successor that is about to be READY."""
    before = grown(parts, last_used_at=950.0, keep_alive=77.0)
    successor = parts.there(phase=Phase.STARTING, generation=2, role=Role.SUCCESSOR)
    return before, successor


def ready(parts: Parts, successor: Row) -> None:
    parts.recycler.on_became_ready(successor, BecameReady(M2, "http://2"), NOW)


def test_a_successor_that_is_ready_is_the_models_server_with_all_who_hold_it() -> None:
    parts = limited()
    before, successor = replacing(parts)
    parts.holds(7)
    before.preempt("n")
    parts.state.recycle_in_place.add(M1)
    parts.state.unmeasured.add(M1)
    ready(parts, successor)
    now, was = parts.shown(), before.server
    assert (now.id, now.phase, now.holds, now.endpoint) == (M2, Phase.READY, 1, "http://2")
    assert (now.last_used_at, now.keep_alive) == (950.0, 77.0)
    assert (was.role, was.phase, was.holds) == (Role.SUPERSEDED, Phase.READY, 0)
    assert not before.is_preempted
    assert parts.state.recycle_in_place == set()
    assert parts.state.unmeasured == {M2}


def test_the_time_of_a_successors_load_is_recorded_as_of_any_other() -> None:
    parts = limited()
    _, successor = replacing(parts)
    successor.is_spawned_here = True
    ready(parts, successor)
    assert [one.seconds for one in of_kind(parts.taken(), RecordLoad)] == [NOW - 985.0]


def test_who_waits_for_what_was_to_go_gets_the_successor() -> None:
    parts = limited()
    _, successor = replacing(parts)
    parts.waits(1)
    ready(parts, successor)
    assert kinds(parts.taken()) == ["Answer"]
    assert len(parts.state.waiters) == 0


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.CLEANING_UP, None])
def test_a_successor_of_what_is_gone_or_going_ends(phase: Phase | None) -> None:
    parts = limited()
    if phase is not None:
        parts.there(phase=phase)
    successor = parts.there(phase=Phase.STARTING, generation=2, role=Role.SUCCESSOR)
    ready(parts, successor)
    assert (successor.server.role, successor.server.phase) == (Role.SUCCESSOR, Phase.STOPPING)


def test_a_successor_of_what_is_being_evicted_ends() -> None:
    parts = limited()
    before, successor = replacing(parts)
    parts.evicts(9, before)
    ready(parts, successor)
    assert successor.server.phase is Phase.STOPPING
    assert parts.shown().id == M1


# --- calling it off -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "changes", "goes_on"),
    [
        (Phase.READY, {}, True),
        (Phase.READY, {"outdated": True}, False),
        (Phase.STOPPING, {}, False),
        (None, {}, False),
    ],
)
def test_a_successor_starts_only_for_one_that_is_there_and_up_to_date(
    before: Phase | None, changes: dict[str, Field], goes_on: bool
) -> None:
    parts = limited()
    if before is not None:
        parts.there(phase=before, **changes)
    successor = parts.there(phase=Phase.STARTING, generation=2, role=Role.SUCCESSOR)
    parts.recycler.call_off(successor, NOW)
    sent = [one.stop for one in of_kind(parts.taken(), SendSignal)]
    assert sent == ([] if goes_on else [StopSignal.TERMINATE])
    if not goes_on:
        assert successor.server.stop_cause is Cause.MEMORY_LIMIT


def test_what_was_replaced_is_not_called_off() -> None:
    parts = limited()
    row = parts.there(role=Role.SUPERSEDED)
    parts.recycler.call_off(row, NOW)
    assert parts.taken() == []


def test_on_a_full_machine_no_successor_fits() -> None:
    parts = limited()
    row = grown(parts)
    parts.sampled(sample(available=7))
    parts.recycler.review(row, NOW)
    assert parts.server(generation=2) is None
