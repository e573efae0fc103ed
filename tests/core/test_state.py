"""The state of the pool: what a change of it brings with it, by values."""

from dataclasses import replace

import pytest

from pool_service.core import lifecycle as life
from pool_service.core import state as state_module
from pool_service.core.activity import SeenUse
from pool_service.core.commands import CancelEstimate, Publish, RecordNamings
from pool_service.core.errors import PoolError
from pool_service.core.liveness import Liveness
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, LastRun, Phase, Role, Server, ServerId
from pool_service.core.types import FOREVER
from tests.core.parts import DEFAULTS, LOADED_AT, M1, NOW, Parts, answers, ended, made, of_kind

NO = PoolError("no")


# --- transitions ----------------------------------------------------------------------------


def test_a_change_of_phase_that_is_not_in_the_table_is_refused_and_changes_nothing() -> None:
    parts = Parts()
    row = parts.there()
    with pytest.raises(AssertionError):
        parts.state.put(replace(row.server, phase=Phase.QUEUED))
    assert row.server.phase is Phase.READY
    assert parts.taken() == []


def test_no_new_server_is_ready() -> None:
    parts = Parts()
    with pytest.raises(AssertionError):
        parts.state.put(made())
    assert len(parts.state.table) == 0


def test_a_server_whose_process_was_not_cleaned_up_is_not_dropped() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STARTING)
    with pytest.raises(AssertionError):
        parts.state.drop(row.server)
    assert parts.state.table.find(M1) is row


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_leads_out_of_the_pool_and_none_to_itself(phase: Phase) -> None:
    follow = life.TRANSITIONS[phase]
    assert phase not in follow
    seen: set[Phase | None] = set()
    ahead: set[Phase | None] = {phase}
    while ahead:
        seen |= ahead
        ahead = {after for one in ahead if one for after in life.TRANSITIONS[one]} - seen
    assert None in seen


# --- what a put brings with it --------------------------------------------------------------


def test_a_put_is_told_with_the_phase_before() -> None:
    parts = Parts()
    row = parts.there()
    stopping = life.stopping(row.server, Cause.IDLE)
    parts.state.put(stopping)
    parts.state.put(stopping, of_holds=True)
    assert parts.taken() == [
        Publish(stopping, Phase.READY),
        Publish(stopping, Phase.STOPPING, of_holds=True),
    ]


def test_what_is_kept_is_told_to_nobody_and_due_all_the_same() -> None:
    parts = Parts()
    row = parts.there()
    parts.state.put_unpublished(life.probe_due(row.server, NOW + 5.0))
    assert parts.taken() == []
    assert parts.state.deadlines.next() == NOW + 5.0


def test_a_server_that_leaves_ready_keeps_none_of_the_marks_of_ready() -> None:
    parts = Parts()
    row = parts.there()
    row.is_checking = row.is_cordoned = True
    row.preempt("other")
    row.busy_until, row.seen_use = NOW, SeenUse(NOW, (1.0,))
    row.liveness = Liveness(NOW, ())
    parts.state.unmeasured.add(M1)
    parts.state.recycle_in_place.add(M1)
    parts.state.put(life.stopping(row.server, Cause.IDLE))
    assert (row.is_checking, row.is_cordoned) == (False, False)
    assert (row.is_preempted, row.preempted_for) == (False, None)
    now = parts.state.table.find(M1)
    assert now is not None
    assert (now.busy_until, now.seen_use, now.liveness) == (None, None, None)
    assert (parts.state.unmeasured, parts.state.recycle_in_place) == (set(), set())


def test_a_server_that_stays_ready_keeps_its_marks() -> None:
    parts = Parts()
    row = parts.there()
    row.is_cordoned = True
    parts.state.recycle_in_place.add(M1)
    parts.state.put(replace(row.server, detail="as before"))
    assert row.is_cordoned
    assert parts.state.recycle_in_place == {M1}


def test_a_server_whose_turn_has_come_leaves_the_queue_and_its_estimate_is_cancelled() -> None:
    parts = Parts()
    row = parts.queued()
    row.is_estimating = True
    parts.state.put(life.admitted(row.server))
    assert parts.state.queue == {}
    assert CancelEstimate(M1) in parts.taken()
    assert not row.is_estimating


@pytest.mark.parametrize(
    ("before", "after", "is_change"),
    [
        (made(phase=Phase.PREPARING), made(phase=Phase.SPAWNING), False),
        (made(phase=Phase.SPAWNING), made(phase=Phase.STARTING), False),
        (made(phase=Phase.STARTING), made(phase=Phase.READY), True),
        (made(phase=Phase.STARTING), made(phase=Phase.STARTING, expected=5), True),
        (made(phase=Phase.STARTING), made(phase=Phase.STARTING, detail="loads"), False),
        (made(phase=Phase.STARTING, expected=5), made(phase=Phase.STARTING, expected=5), False),
        (None, made(phase=Phase.QUEUED), False),
        (None, made(phase=Phase.STARTING), True),
    ],
)
def test_the_queue_is_looked_at_again_where_a_change_means_something_for_others(
    before: Server | None, after: Server, is_change: bool
) -> None:
    state = Parts().state
    if before is not None:
        state.put(before)
        state.capacity_changed = False
    state.put(after)
    assert state.capacity_changed is is_change


def test_only_the_current_server_is_held() -> None:
    parts = Parts()
    parts.there(role=Role.SUPERSEDED)
    parts.there(generation=2)
    parts.holds(7)
    assert parts.shown().holds == 1
    parts.state.put(parts.shown(generation=1))
    assert parts.shown(generation=1).holds == 0


# --- dropping -------------------------------------------------------------------------------


def test_of_a_server_that_is_dropped_only_its_generation_and_its_end_stay_known() -> None:
    parts = Parts()
    server = ended(made(phase=Phase.CLEANING_UP, generation=3, successor_generation=4))
    parts.state.put(server)
    parts.taken()
    parts.state.capacity_changed = False
    parts.state.drop(server)
    assert parts.state.known("m") == LastRun("m", 4, server.last_exit)
    assert parts.taken() == [Publish(server, Phase.CLEANING_UP, removed=True)]
    assert parts.state.capacity_changed
    assert parts.state.deadlines.next() == FOREVER


def test_a_server_beside_the_current_one_leaves_nothing_behind_for_its_model() -> None:
    parts = Parts()
    parts.there(generation=2)
    row = parts.there(phase=Phase.CLEANING_UP, role=Role.SUPERSEDED)
    parts.state.drop(row.server)
    assert parts.state.pasts == {}


def test_a_start_that_never_began_leaves_no_past() -> None:
    parts = Parts()
    parts.state.drop(parts.queued().server)
    assert parts.state.known("m") is None
    assert parts.state.queue == {}


def test_the_newest_of_what_is_known_of_a_model_tells_its_next_generation() -> None:
    parts = Parts()
    parts.state.pasts["m"] = LastRun("m", 5, None)
    assert parts.state.known("m") == LastRun("m", 5, None)
    parts.there(generation=6)
    assert parts.state.known("m") == parts.shown()
    parts.there(generation=7, phase=Phase.STARTING, role=Role.SUCCESSOR)
    assert parts.state.known("m") == parts.shown(generation=7)
    parts.state.pasts["m"] = LastRun("m", 7, None)
    assert parts.state.known("m") == parts.shown(generation=7), "as new, and it is there"
    parts.state.pasts["m"] = LastRun("m", 8, None)
    assert parts.state.known("m") == LastRun("m", 8, None)


def test_of_so_many_models_the_ones_longest_gone_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state_module, "MAX_MODELS_REMEMBERED", 3)
    state = Parts().state
    for model in ("m0", "m1", "m2"):
        state.remember_past(made(model))
        state.touch(model, NOW)
    state.remember_past(made("m0"))
    state.touch("m0", NOW)
    state.remember_past(made("new"))
    state.touch("new", NOW)
    for known in (state.pasts, state.uses):
        assert list(known) == ["m2", "m0", "new"]


# --- deadlines ------------------------------------------------------------------------------


def test_a_ready_server_is_due_when_it_expires_or_is_probed_whichever_is_first() -> None:
    parts = Parts()
    row = parts.there(step_deadline=NOW + 15.0)
    assert parts.state.due(row) == NOW + 15.0
    row = parts.there("n", step_deadline=NOW + 15.0, keep_alive=12.0)
    assert parts.state.due(row) == LOADED_AT + 12.0


def test_nothing_is_due_while_an_answer_about_a_server_is_awaited() -> None:
    parts = Parts()
    row = parts.there()
    row.is_checking = True
    parts.state.arm(row)
    assert parts.state.deadlines.next() == FOREVER
    row.is_checking = False
    parts.state.arm(row)
    assert parts.state.deadlines.next() == NOW + 100.0


def test_a_preempted_server_is_checked_when_its_grace_period_is_over_but_not_while_busy() -> None:
    parts = Parts()
    row = parts.there()
    assert parts.state.check_due(row) == LOADED_AT + DEFAULTS.keep_alive
    row.preempt("other")
    assert parts.state.check_due(row) == LOADED_AT + DEFAULTS.grace_period
    row.busy_until = NOW + 1.0
    assert parts.state.check_due(row) == NOW + 1.0


# --- callers --------------------------------------------------------------------------------


def test_a_holder_is_told_of_the_end_of_its_hold_only() -> None:
    parts = Parts()
    row = parts.there()
    parts.holds(7)
    parts.state.answer(7, Ensured(row.server, started=True))
    assert parts.taken() == []
    parts.state.answer(7, NO)
    assert answers(parts.taken()) == {7: NO}
    assert parts.shown().holds == 0
    assert not parts.state.holds.has(7)


def test_the_pool_itself_is_answered_nothing() -> None:
    parts = Parts()
    parts.state.answer(None, NO)
    assert parts.taken() == []


def test_failed_waiters_wait_no_longer_and_who_only_holds_holds_on() -> None:
    parts = Parts()
    parts.there(phase=Phase.STARTING)
    parts.holds(7)
    parts.waits(1)
    parts.waits(2)
    parts.waits(3, "n")
    parts.state.fail_waiters("m", NO)
    assert answers(parts.taken()) == {1: NO, 2: NO}
    assert parts.state.waiters.models() == ["n"]
    assert parts.shown().holds == 1


def test_a_holder_who_waits_as_well_is_answered_once() -> None:
    parts = Parts()
    parts.there(phase=Phase.STARTING)
    parts.holds(7)
    parts.waits(7)
    parts.holds(8)
    parts.state.fail_callers("m", NO)
    assert answers(parts.taken()) == {7: NO, 8: NO}
    assert parts.shown().holds == 0


# --- the runtime models that callers named --------------------------------------------------


def test_a_named_runtime_model_is_recorded_when_it_is_news() -> None:
    state = Parts().state
    state.note_naming("m", "org/other")
    state.note_naming("m", "org/other")
    assert state.commands == [RecordNamings({"m": "org/other"})]


def test_a_listed_models_runtime_model_is_what_the_configuration_says() -> None:
    state = Parts({"m": DEFAULTS}).state
    state.note_naming("m", "org/other")
    assert state.commands == []


def test_who_names_the_models_own_runtime_model_ends_the_memory_of_another() -> None:
    state = Parts().state
    state.note_naming("m", "org/other")
    state.note_naming("m", "m")
    assert state.namings.get("m") == ""
    assert of_kind(state.commands, RecordNamings)[-1] == RecordNamings({})
    state.note_naming("m", "m")
    assert len(state.commands) == 2


# --- the story ------------------------------------------------------------------------------


def test_a_change_of_phase_or_role_is_noted_with_its_event_and_nothing_else_is() -> None:
    parts = Parts()
    row = parts.there()
    state = parts.state
    told = len(state.stories.of("m"))
    state.event, state.now = "ActivityReported", NOW + 1.0
    state.put(replace(row.server, detail="as before"))
    assert len(state.stories.of("m")) == told
    state.put(life.stopping(row.server, Cause.IDLE))
    state.put(replace(row.server, role=Role.SUPERSEDED))
    noted = state.stories.of("m")[told:]
    assert [(one.at, one.event, one.server_id) for one in noted] == 2 * [
        (NOW + 1.0, "ActivityReported", ServerId("m", 1))
    ]
    assert (noted[0].before, noted[0].after) == (Phase.READY, Phase.STOPPING)
    assert noted[0].why == Cause.IDLE.value
    assert noted[1].role is Role.SUPERSEDED
