"""Pins by callers: what is remembered of them, and what they change at once."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pool_service.core import events as ev
from pool_service.core.activity import Activity
from pool_service.core.admission import PreemptionClass
from pool_service.core.commands import CheckActivity, Publish, RecordPins
from pool_service.core.events import PinRequested, ReloadRequested
from pool_service.core.machine import Machine
from pool_service.core.remembered import MAX_PINS
from pool_service.core.results import Ensured, Every, Pinned
from pool_service.core.server import Cause, Phase, RecoveredState, Role, ServerId
from pool_service.core.types import FOREVER, Settings
from tests.core.parts import (
    DEFAULTS,
    LOADED_AT,
    NOW,
    Parts,
    answers,
    died,
    kinds,
    made,
    of_kind,
    refused,
)

PINNED = replace(DEFAULTS, runtime_model="m", pinned=True)
PLAIN = replace(DEFAULTS, runtime_model="m")


def pin(parts: Parts, pinned: bool | None = True, model: str = "m", now: float = NOW) -> Pinned:
    """Let a caller pin a model; return the answer, and leave all other commands."""
    before = len(parts.state.commands)
    parts.pinning.pin(PinRequested(7, model, pinned), now)
    told = answers(parts.state.commands).pop(7)
    parts.state.commands = [one for one in parts.state.commands if not hasattr(one, "request_id")]
    assert isinstance(told, Pinned)
    # Whether something else is remembered is what RecordPins says.
    is_recorded = any(isinstance(one, RecordPins) for one in parts.state.commands[before:])
    assert told.noted is is_recorded
    assert told.by_call is (parts.state.pins.get(parts.state.catalogue.resolve(model)) is not None)
    return replace(told, noted=False, by_call=False)


# --- what is remembered -----------------------------------------------------------------------


def test_a_pin_belongs_to_the_name_that_an_alias_means_and_is_recorded_once() -> None:
    parts = Parts(aliases={"alias": "m"})
    assert pin(parts, model="alias") == Pinned(pinned=True, changed=True, configured=False)
    assert pin(parts) == Pinned(pinned=True, changed=False, configured=False)
    assert parts.taken() == [RecordPins({"m": True})]
    assert parts.state.settings_for("m").pinned
    assert parts.state.settings_for("m", "org/other").pinned
    assert not parts.state.settings_for("n").pinned


@pytest.mark.parametrize("configured", [True, False])
def test_what_callers_said_counts_until_they_let_the_configuration_decide(configured: bool) -> None:
    parts = Parts({"m": PINNED if configured else PLAIN})
    other = not configured
    assert pin(parts, other) == Pinned(other, changed=True, configured=configured)
    assert pin(parts, None) == Pinned(configured, changed=True, configured=configured)
    assert pin(parts, None) == Pinned(configured, changed=False, configured=configured)
    assert parts.taken() == [RecordPins({"m": other}), RecordPins({})]


def test_a_pin_that_is_taken_back_leaves_a_later_configuration_free_to_pin_the_model() -> None:
    parts = Parts({"m": PLAIN})
    pin(parts, True)
    assert pin(parts, False) == Pinned(pinned=False, changed=True, configured=False)
    assert parts.taken()[-1] == RecordPins({})
    parts.state.catalogue = Parts({"m": PINNED}).state.catalogue
    assert parts.state.settings_for("m").pinned


def test_a_pin_that_is_taken_back_ends_with_the_configuration_that_gave_it() -> None:
    parts = Parts({"m": PINNED})
    parts.there(settings=PINNED)
    pin(parts, False)
    for listed, recorded in ((PLAIN, [RecordPins({})]), (PINNED, [])):
        parts.taken()
        catalogue = Parts({"m": listed}).state.catalogue
        parts.reconfiguration.reload(ReloadRequested(1, catalogue, parts.state.limits), NOW)
        assert parts.shown().settings.pinned is listed.pinned
        assert of_kind(parts.taken(), RecordPins) == recorded


def test_a_model_that_both_pin_stays_pinned_if_the_configuration_does_so_no_more() -> None:
    parts = Parts({"m": PINNED})
    assert pin(parts, True) == Pinned(pinned=True, changed=False, configured=True)
    parts.state.catalogue = Parts({"m": PLAIN}).state.catalogue
    assert parts.state.settings_for("m").pinned


def test_a_reload_leaves_what_callers_said_as_it_is() -> None:
    parts = Parts({"m": PLAIN})
    parts.there(settings=PLAIN)
    pin(parts, True)
    catalogue = Parts({"m": replace(PLAIN, keep_alive=9.0)}).state.catalogue
    parts.reconfiguration.reload(ReloadRequested(1, catalogue, parts.state.limits), NOW)
    shown = parts.shown()
    assert (shown.settings.pinned, shown.keep_alive, shown.outdated) == (True, 9.0, False)


def test_a_pin_goes_with_its_name_where_that_becomes_an_alias_and_can_be_taken_back() -> None:
    parts = Parts()
    parts.there("m", settings=PLAIN)
    parts.there("old", settings=replace(PLAIN, runtime_model="old"))
    pin(parts, model="old")
    catalogue = Parts({"m": PLAIN}, aliases={"old": "m"}).state.catalogue
    parts.reconfiguration.reload(ReloadRequested(1, catalogue, parts.state.limits), NOW)
    assert of_kind(parts.taken(), RecordPins)[-1] == RecordPins({"m": True})
    assert (parts.shown("m").settings.pinned, parts.shown("old").settings.pinned) == (True, False)
    assert pin(parts, False, model="old") == Pinned(pinned=False, changed=True, configured=False)
    assert of_kind(parts.taken(), RecordPins) == [RecordPins({})]


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.READY])
def test_such_a_pin_is_that_of_what_ends_and_of_what_is_beside_too(phase: Phase) -> None:
    parts = Parts()
    parts.there(generation=1, phase=phase, role=Role.SUPERSEDED)
    parts.there(generation=2, phase=Phase.STOPPING)
    pin(parts, model="old")
    catalogue = Parts(aliases={"old": "m"}).state.catalogue
    parts.reconfiguration.reload(ReloadRequested(1, catalogue, parts.state.limits), NOW)
    assert [row.server.settings.pinned for row in parts.state.table] == [True, True]


@pytest.mark.parametrize(
    ("said", "listed", "left"),
    [
        ({"m": False, "old": True}, PINNED, {"m": False}),
        ({"old": True, "m": False}, PINNED, {"m": False}),
        ({"older": True, "old": False}, PINNED, {"m": False}),
        ({"older": False, "old": True}, PLAIN, {"m": True}),
        # Only remembered where the configuration pins the model.
        ({"old": False}, PLAIN, {}),
        ({"m": False}, PLAIN, {}),
        ({"m": False}, PINNED, {"m": False}),
        ({"other": True}, PLAIN, {"other": True}),
    ],
)
def test_what_callers_said_last_of_a_model_counts_for_it_and_its_own_name_before_others(
    said: dict[str, bool], listed: Settings, left: dict[str, bool]
) -> None:
    catalogue = Parts({"m": listed}, aliases={"old": "m", "older": "m"}).state.catalogue
    reloaded = Parts()
    for model, pinned in said.items():
        reloaded.state.pins.set(model, pinned=pinned)
    reloaded.reconfiguration.reload(ReloadRequested(1, catalogue, reloaded.state.limits), NOW)
    restarted = Parts({"m": listed}, aliases={"old": "m", "older": "m"})
    restarted.recovery.on_recovery_began(ev.RecoveryBegan(RecoveredState(pins=said)), NOW)
    for parts in (reloaded, restarted):
        assert parts.state.pins.all() == left
        is_new = [RecordPins(left)] if left != said else []
        assert of_kind(parts.taken(), RecordPins) == is_new


def test_a_pin_of_a_name_that_is_an_alias_after_a_restart_is_that_of_its_model() -> None:
    parts = Parts({"m": PLAIN}, aliases={"old": "m"})
    remembered = RecoveredState((made(settings=PLAIN),), pins={"old": True})
    parts.recovery.on_recovery_began(ev.RecoveryBegan(remembered), NOW)
    assert parts.shown().settings.pinned


def test_one_more_than_are_remembered_is_refused_and_no_other_loses_its_pin_for_it() -> None:
    parts = Parts({"listed": PINNED})
    for number in range(MAX_PINS):
        pin(parts, model=f"m{number}")
    parts.taken()
    said = parts.state.pins.all()
    for number, (model, pinned) in enumerate((("further", True), ("listed", False))):
        parts.pinning.pin(PinRequested(number, model, pinned), NOW)
        issued = parts.taken()
        assert (refused(issued), of_kind(issued, RecordPins)) == ({number: "TooManyPins"}, [])
        advice = "pin the model in" if pinned else "take the pin of the model out of"
        assert f"or {advice} the configuration" in str(answers(issued)[number])
    assert parts.state.pins.all() == said
    # What adds nothing is answered, and one that is taken back makes room.
    assert not pin(parts, model="m0").changed
    assert not pin(parts, False, model="further").changed
    assert pin(parts, None, model="m1").changed
    assert pin(parts, True, model="further").changed
    assert set(parts.state.pins.all()) == {*said, "further"} - {"m1"}


def test_only_what_is_served_can_be_pinned_and_every_pin_can_be_taken_back() -> None:
    parts = Parts({"listed": PLAIN}, only_listed=True)
    parts.pinning.pin(PinRequested(1, "m", pinned=True), NOW)
    assert refused(parts.taken()) == {1: "ModelUnknown"}
    parts.state.pins.set("m", pinned=True)
    assert pin(parts, None) == Pinned(pinned=False, changed=True, configured=False)
    assert parts.taken() == [RecordPins({})]


# --- a server that is there -------------------------------------------------------------------


def test_a_server_is_pinned_at_once_and_goes_on_as_it_is() -> None:
    parts = Parts()
    before = parts.there().server
    pin(parts)
    (changed,) = of_kind(parts.state.commands, Publish)
    assert changed.server == replace(before, settings=replace(before.settings, pinned=True))
    assert not changed.of_holds, "who holds it is told"
    assert kinds(parts.taken()) == ["RecordPins"]
    assert parts.shown().expires_at == FOREVER
    pin(parts, False)
    assert parts.shown() == before
    assert parts.shown().expires_at == LOADED_AT + DEFAULTS.keep_alive
    assert [one.why for one in parts.state.stories.of("m")[-2:]] == [
        "it was pinned",
        "its pin was taken back",
    ]


def test_what_runs_as_a_caller_named_it_is_pinned_too_and_is_then_as_its_own_settings_say() -> None:
    parts = Parts({"m": PINNED})
    parts.there(settings=replace(DEFAULTS, runtime_model="org/named", asked=True))
    assert pin(parts, None) == Pinned(pinned=False, changed=False, configured=False)
    assert pin(parts, True) == Pinned(pinned=True, changed=True, configured=False)
    assert parts.shown().settings.pinned


@pytest.mark.parametrize(
    "phase", [Phase.QUEUED, Phase.STARTING, Phase.BACKING_OFF, Phase.FAILED, Phase.STOPPING]
)
def test_in_every_phase_it_shows_and_nothing_begins_or_ends(phase: Phase) -> None:
    parts = Parts()
    before = parts.there(phase=phase).server
    pin(parts)
    shown = parts.shown()
    assert shown == replace(before, settings=replace(before.settings, pinned=True))
    assert kinds(parts.taken()) == ["RecordPins"]


def test_what_runs_beside_the_current_server_is_pinned_with_it() -> None:
    parts = Parts()
    parts.there(generation=1)
    parts.there(generation=2, phase=Phase.STARTING, role=Role.SUCCESSOR)
    pin(parts)
    assert [row.server.settings.pinned for row in parts.state.table] == [True, True]


def test_what_is_outdated_and_pinned_still_ends_when_it_is_unused() -> None:
    parts = Parts()
    parts.there(outdated=True)
    pin(parts)
    assert parts.shown().settings.pinned
    assert parts.shown().expires_at == parts.shown().resides_until


def test_who_waits_starts_it_as_it_is_pinned_now() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING)
    parts.waits(1)
    parts.waits(2, runtime_model="org/named")
    pin(parts)
    assert [one.settings.pinned for one in parts.state.waiters.of("m")] == [True, True]
    named = [one.settings.runtime_model for one in parts.state.waiters.of("m")]
    assert named == ["m", "org/named"]


def test_a_pinned_server_that_dies_comes_again_by_itself_until_its_pin_is_taken_back() -> None:
    for pinned in (True, False):
        parts = Parts({"m": replace(PLAIN, pinned=not pinned)})
        row = parts.there(settings=replace(PLAIN, pinned=not pinned))
        pin(parts, pinned)
        parts.supervisor.add_holders_to_waiters(row.server)
        assert len(parts.state.waiters.of("m")) == pinned


def crashed(parts: Parts) -> None:
    """Let a pinned server crash often enough that its next start waits."""
    row = parts.there(settings=replace(PLAIN, pinned=True), crashes=(NOW - 9.0,))
    parts.supervisor.on_exited(row, ev.Exited(row.server.id, died(killed=True)), NOW)
    parts.supervisor.on_cleaned_up(row, ev.CleanedUp(row.server.id), NOW)


def queued_for_its_pin(parts: Parts) -> None:
    row = parts.there(settings=replace(PLAIN, pinned=True))
    parts.supervisor.on_exited(row, ev.Exited(row.server.id, died(killed=True)), NOW)
    parts.supervisor.on_cleaned_up(row, ev.CleanedUp(row.server.id), NOW)
    assert parts.shown().phase is Phase.QUEUED


def unpinned_by_a_caller(parts: Parts) -> None:
    pin(parts, False)


def unpinned_by_a_reload(parts: Parts) -> None:
    catalogue = Parts({"m": PLAIN}).state.catalogue
    parts.reconfiguration.reload(ReloadRequested(1, catalogue, parts.state.limits), NOW)


unpinnings = pytest.mark.parametrize("unpin", [unpinned_by_a_caller, unpinned_by_a_reload])
Unpin = Callable[[Parts], None]


@unpinnings
def test_a_start_that_waits_only_for_the_pin_is_given_up_with_it(unpin: Unpin) -> None:
    parts = Parts({"m": PINNED})
    queued_for_its_pin(parts)
    unpin(parts)
    assert parts.server() is None
    why = {"its pin was taken back", "its configuration was changed"}
    assert parts.state.stories.of("m")[-1].why in why
    parts = Parts({"m": PINNED})
    crashed(parts)
    assert parts.shown().phase is Phase.BACKING_OFF
    unpin(parts)
    assert parts.shown().phase is Phase.FAILED


@unpinnings
def test_a_start_for_which_others_wait_goes_on_without_the_pin(unpin: Unpin) -> None:
    parts = Parts({"m": PINNED})
    queued_for_its_pin(parts)
    parts.waits(1)
    unpin(parts)
    assert [one.request_id for one in parts.state.waiters.of("m")] == [1]
    assert parts.shown().phase is Phase.QUEUED


@unpinnings
def test_what_ends_for_its_next_generation_is_the_last_if_only_the_pin_wanted_that(
    unpin: Unpin,
) -> None:
    parts = Parts({"m": PINNED})
    row = parts.there(settings=PINNED)
    parts.supervisor.on_exited(row, ev.Exited(row.server.id, died(killed=True)), NOW)
    unpin(parts)
    parts.supervisor.on_cleaned_up(row, ev.CleanedUp(row.server.id), NOW)
    assert parts.shown().phase is Phase.FAILED


@unpinnings
def test_a_start_under_way_goes_on_whoever_wanted_it(unpin: Unpin) -> None:
    parts = Parts({"m": PINNED})
    queued_for_its_pin(parts)
    parts.supervisor.start(parts.shown())
    unpin(parts)
    assert parts.shown().phase is Phase.PREPARING


@unpinnings
def test_what_the_pool_wants_for_another_reason_goes_on(unpin: Unpin) -> None:
    parts = Parts({"m": PINNED})
    parts.supervisor.start_unasked("m", NOW, "is preloaded")
    unpin(parts)
    assert parts.shown().phase is Phase.QUEUED
    parts = Parts({"m": PINNED})
    row = parts.there(settings=PINNED)
    parts.supervisor.stop(row.server, Cause.MEMORY_LIMIT, NOW)
    unpin(parts)
    assert [one.request_id for one in parts.state.waiters.of("m")] == [None]


# --- whether it stays -------------------------------------------------------------------------


def test_an_idle_check_that_was_under_way_does_not_stop_what_is_pinned_since() -> None:
    parts = Parts()
    row = parts.there(last_used_at=0.0)
    for _ in range(2):
        parts.idle.check(row)
        assert row.is_checking
        pin(parts)
        parts.idle.on_activity_reported(row, Activity(0), NOW)
        assert (parts.shown().phase, row.is_cordoned) == (Phase.READY, False)
    pin(parts, False)
    parts.idle.on_activity_reported(row, Activity(0), NOW)
    parts.idle.on_activity_reported(row, Activity(0), NOW)
    assert (parts.shown().phase, parts.shown().stop_cause) == (Phase.STOPPING, Cause.IDLE)


def test_an_unpinned_server_is_due_at_the_end_of_its_keep_alive_or_now() -> None:
    for last_used_at, due in ((NOW - 10.0, NOW + 290.0), (NOW - 400.0, NOW - 100.0)):
        parts = Parts({"m": PINNED})
        parts.there(settings=PINNED, last_used_at=last_used_at, step_deadline=FOREVER)
        assert parts.state.deadlines.next() == FOREVER
        pin(parts, False)
        assert parts.state.deadlines.next() == due
        pin(parts, None)
        assert parts.state.deadlines.next() == FOREVER


def test_a_preempted_server_that_gets_pinned_is_handed_out_again() -> None:
    parts = Parts()
    row = parts.there()
    row.preempt("b")
    row.is_cordoned = True
    parts.waits(1)
    parts.pinning.pin(PinRequested(2, "m", pinned=True), NOW)
    assert answers(parts.taken())[1] == Ensured(parts.shown(), started=False)
    assert (row.is_preempted, row.is_cordoned) == (False, False)
    assert parts.state.capacity_changed, "the scheduler looks for another one"


def test_a_server_that_is_preempted_for_its_own_next_generation_is_so_if_it_is_pinned_too() -> None:
    parts = Parts()
    row = parts.there()
    row.preempt("m")
    pin(parts)
    assert row.is_preempted


def test_a_pinned_server_is_no_candidate_of_preemption_and_is_one_again() -> None:
    parts = Parts()
    parts.there()
    found = []
    for pinned in (True, False):
        pin(parts, pinned)
        found += [one.preemption_class for one in parts.scheduler.capacity(NOW).residents()]
    assert found == [PreemptionClass.PROTECTED, PreemptionClass.UNUSED]


def test_evict_idle_leaves_out_what_was_pinned_before_and_what_is_pinned_meanwhile() -> None:
    parts = Parts()
    parts.there("a")
    row = parts.there("b")
    pin(parts, model="a")
    parts.taken()
    parts.evicting.evict(ev.EvictRequested(1, Every.IDLE), NOW)
    assert [one.server_id.model for one in of_kind(parts.taken(), CheckActivity)] == ["b"]
    pin(parts, model="b")
    parts.taken()
    parts.idle.on_activity_reported(row, Activity(0), NOW)
    assert answers(parts.taken()) == {1: ()}
    assert parts.shown("b").phase is Phase.READY


def test_evict_stops_a_pinned_server_that_it_names_and_the_pin_stays() -> None:
    parts = Parts()
    row = parts.there()
    pin(parts)
    parts.evicting.evict(ev.EvictRequested(1, "m"), NOW)
    for _ in range(2):
        parts.idle.on_activity_reported(row, Activity(0), NOW)
    assert parts.shown().stop_cause is Cause.EVICTED
    assert parts.state.waiters.first("m") is None
    assert parts.state.settings_for("m").pinned


# --- by the whole machine ---------------------------------------------------------------------


def test_a_listed_an_unlisted_and_a_pinned_model_without_a_server_are_told_as_they_are_pinned() -> (
    None
):
    catalogue = Parts({"m": PLAIN}, aliases={"alias": "m"}).state.catalogue
    machine = Machine(catalogue, Parts().state.limits)
    for number, model in enumerate(("alias", "n")):
        machine.handle(PinRequested(number, model, pinned=True), NOW)
    assert [
        (one.model, one.settings.pinned) for one in machine.page_of_models(None, None, None)
    ] == [("m", True)]
    known = {
        one.model: one.settings.pinned for one in machine.page_of_models(None, None, ["org/cached"])
    }
    assert known == {"m": True, "n": True, "org/cached": False}
    machine.handle(PinRequested(2, "n", pinned=False), NOW)
    assert "n" not in {one.model for one in machine.page_of_models(None, None, [])}
    assert machine.server(ServerId("m", 1)) is None, "a pin starts nothing"
