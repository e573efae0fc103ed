"""What callers want: handed out, let wait, or refused."""

from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Answer, Publish, RecordNamings
from pool_service.core.errors import CrashLoop, PoolError
from pool_service.core.events import (
    EnsureRequested,
    ForgetRequested,
    HoldEnded,
    HoldRequested,
    WaiterLeft,
)
from pool_service.core.requests import USE_RESOLUTION_S
from pool_service.core.results import Ensured
from pool_service.core.server import Phase, ServerId
from tests.core.parts import (
    DEFAULTS,
    LOADED_AT,
    M1,
    NOW,
    Field,
    Parts,
    answers,
    ended,
    kinds,
    made,
    of_kind,
    refused,
)

NO = PoolError("no")


def ensure(parts: Parts, request_id: int = 1, model: str = "m", **more: Field) -> None:
    parts.requests.ensure(EnsureRequested(request_id, model, **more), NOW)


def hold(parts: Parts, request_id: int = 7, **more: Field) -> None:
    parts.requests.hold(HoldRequested(request_id, "m", **more), NOW)


def waiting(parts: Parts) -> list[int | None]:
    return [waiter.request_id for waiter in parts.state.waiters.of("m")]


# --- handing out ----------------------------------------------------------------------------


def test_a_ready_server_is_handed_out_and_used_and_nobody_who_watches_is_told() -> None:
    parts = Parts(aliases={"alias": "m"})
    row = parts.there()
    row.is_cordoned = True
    ensure(parts, model="alias", keep_alive=77.0)
    assert parts.taken() == [Answer(1, Ensured(row.server, started=False))]
    assert (row.server.last_used_at, row.server.keep_alive) == (NOW, 77.0)
    assert not row.is_cordoned, "who gets it may ask it after the check that is under way"
    assert parts.state.uses["m"].count(NOW) > 0


@pytest.mark.parametrize(
    ("ago", "is_written"), [(USE_RESOLUTION_S * 0.9, False), (USE_RESOLUTION_S * 1.1, True)]
)
def test_uses_that_follow_closely_count_as_one(ago: float, is_written: bool) -> None:
    parts = Parts()
    parts.there(last_used_at=NOW - ago)
    ensure(parts)
    assert (parts.shown().last_used_at == NOW) is is_written
    assert ("m" in parts.state.uses) is is_written


@pytest.mark.parametrize(("ago", "is_written"), [(0.009, False), (0.011, True)])
def test_a_short_keep_alive_counts_its_uses_more_exactly(ago: float, is_written: bool) -> None:
    parts = Parts()
    parts.there(last_used_at=NOW - ago, keep_alive=1.0)
    assert (parts.requests.at_once("m", NOW) is None) is is_written
    ensure(parts)
    assert (parts.shown().last_used_at == NOW) is is_written


@pytest.mark.parametrize(("ago", "is_written"), [(0.09, False), (0.11, True)])
def test_a_short_grace_period_counts_its_uses_more_exactly(ago: float, is_written: bool) -> None:
    parts = Parts()
    parts.there(last_used_at=NOW - ago, settings=replace(DEFAULTS, grace_period=1.0))
    assert (parts.requests.at_once("m", NOW) is None) is is_written


@pytest.mark.parametrize("why", ["cordoned", "used long ago", "preempted", "closing", "unlisted"])
def test_a_server_is_handed_out_without_an_event_only_if_that_changes_nothing(why: str) -> None:
    parts = Parts(only_listed=False)
    row = parts.there(last_used_at=NOW)
    assert parts.requests.at_once("m", NOW) is row.server
    row.is_cordoned = why == "cordoned"
    row.is_preempted = why == "preempted"
    parts.state.is_closing = why == "closing"
    if why == "unlisted":
        parts.state.catalogue = Catalogue(DEFAULTS, only_listed=True)
    later = NOW + (2 * USE_RESOLUTION_S if why == "used long ago" else 0.0)
    assert parts.requests.at_once("m", later) is None


def test_what_is_about_to_go_is_waited_for() -> None:
    for mark in ("preempted", "evicted"):
        parts = Parts()
        row = parts.there()
        if mark == "preempted":
            row.preempt("n")
        else:
            parts.evicts(9, row)
            row.is_cordoned = True
        ensure(parts)
        assert parts.taken() == []
        assert waiting(parts) == [1]


def test_an_eviction_whose_look_has_not_come_back_keeps_nobody_waiting() -> None:
    parts = Parts()
    row = parts.there()
    parts.evicts(9, row)
    ensure(parts)
    assert answers(parts.taken()) == {1: Ensured(row.server, started=False)}


# --- waiting --------------------------------------------------------------------------------


def test_the_first_who_wants_a_model_starts_it_and_the_others_join() -> None:
    parts = Parts()
    ensure(parts, 1, runtime_model="org/named")
    assert kinds(parts.taken()) == ["EstimateMemory"]
    ensure(parts, 2)
    assert kinds(parts.taken()) == []
    first, second = parts.state.waiters.of("m")
    assert (first.starts, second.starts) == (True, False)
    assert second.settings.runtime_model == "org/named", "all who wait agree"


def test_who_asks_during_the_last_steps_of_a_server_waits_for_the_next_one() -> None:
    parts = Parts()
    parts.there(phase=Phase.CLEANING_UP)
    ensure(parts)
    assert parts.taken() == []
    assert waiting(parts) == [1]


def test_what_died_and_has_its_pause_yet_is_waited_for() -> None:
    parts = Parts()
    parts.state.put(ended(made(phase=Phase.FAILED, retry_at=NOW + 5.0)))
    ensure(parts)
    assert (parts.shown().phase, parts.shown().id) == (Phase.BACKING_OFF, ServerId("m", 2))
    assert parts.shown().step_deadline == NOW + 5.0


def test_a_pause_does_not_count_for_another_runtime_model_nor_when_it_is_over() -> None:
    for runtime_model, retry_at in (("org/other", NOW + 5.0), ("", NOW)):
        parts = Parts()
        parts.state.put(ended(made(phase=Phase.FAILED, retry_at=retry_at)))
        ensure(parts, runtime_model=runtime_model)
        assert parts.shown().phase is Phase.QUEUED


# --- refusing -------------------------------------------------------------------------------


def test_a_service_that_ends_refuses_all() -> None:
    parts = Parts()
    parts.there()
    parts.state.is_closing = True
    ensure(parts)
    hold(parts)
    assert refused(parts.taken()) == {1: "ShuttingDown", 7: "ShuttingDown"}
    assert parts.state.holds.count("m") == 0


def test_what_is_not_listed_is_refused_where_only_the_listed_is_served() -> None:
    parts = Parts({"m": replace(DEFAULTS, runtime_model="org/m")}, only_listed=True)
    ensure(parts, 1, "n")
    ensure(parts, 2, runtime_model="org/other")
    assert refused(parts.taken()) == {1: "ModelUnknown", 2: "ModelUnknown"}
    assert len(parts.state.table) == 0


@pytest.mark.parametrize("phase", [Phase.READY, Phase.STARTING, Phase.QUEUED])
def test_who_names_another_runtime_model_than_the_one_that_runs_or_starts_is_refused(
    phase: Phase,
) -> None:
    parts = Parts()
    parts.there(phase=phase)
    ensure(parts, runtime_model="org/other")
    assert refused(parts.taken()) == {1: "RuntimeModelConflict"}


def test_after_a_server_that_leaves_the_first_who_waits_says_which_runtime_model_comes() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING)
    ensure(parts, 1, runtime_model="org/named")
    ensure(parts, 2, runtime_model="org/other")
    assert refused(parts.taken()) == {2: "RuntimeModelConflict"}
    assert waiting(parts) == [1]


@pytest.mark.parametrize(("later", "told"), [(0.0, {1: "CrashLoop"}), (10.0, {})])
def test_a_crash_loop_is_told_from_memory_with_the_time_that_is_left(
    later: float, told: dict[int, str]
) -> None:
    parts = Parts()
    loop = CrashLoop("died", retry_after=30.0)
    failed = made(phase=Phase.FAILED, failure=loop, retry_at=NOW + 10.0 - later)
    parts.state.put(ended(failed))
    parts.taken()
    ensure(parts)
    issued = parts.taken()
    assert refused(issued) == told
    if told:
        assert getattr(answers(issued)[1], "retry_after", None) == 10.0


def test_the_error_of_a_failed_start_is_remembered_for_the_same_runtime_model() -> None:
    parts = Parts()
    parts.state.failed_starts.add("m", "m", NO, NOW + 2.0)
    ensure(parts, 1)
    assert answers(parts.taken()) == {1: NO}
    ensure(parts, 2, runtime_model="org/other")
    assert answers(parts.taken()) == {}


def test_a_queue_that_is_full_takes_nobody_new_but_all_who_join_others() -> None:
    parts = Parts(queue_limit=1)
    parts.queued("n")
    ensure(parts, 1)
    ensure(parts, 2, "n")
    assert refused(parts.taken()) == {1: "QueueFull"}
    parts.there(phase=Phase.STARTING)
    ensure(parts, 3)
    assert answers(parts.taken()) == {}


# --- holding --------------------------------------------------------------------------------


def test_who_holds_a_ready_server_is_told_nothing_and_it_expires_no_longer() -> None:
    parts = Parts()
    row = parts.there()
    row.is_cordoned = True
    hold(parts)
    (told,) = parts.taken()
    assert told == Publish(row.server, Phase.READY, of_holds=True)
    assert (row.server.holds, row.server.last_used_at) == (1, NOW)
    assert not row.is_cordoned


def test_who_holds_what_is_not_there_starts_it() -> None:
    parts = Parts()
    hold(parts)
    assert (parts.shown().phase, parts.shown().holds) == (Phase.QUEUED, 1)
    assert waiting(parts) == [7]
    assert answers(parts.taken()) == {}


def test_when_the_last_holder_has_gone_a_server_was_used_until_now() -> None:
    parts = Parts()
    parts.there()
    parts.holds(7)
    parts.holds(8)
    parts.requests.on_hold_ended(HoldEnded(7), NOW + 50.0)
    assert (parts.shown().holds, parts.shown().last_used_at) == (1, LOADED_AT)
    parts.requests.on_hold_ended(HoldEnded(8), NOW + 50.0)
    assert parts.shown().holds == 0
    assert parts.shown().last_used_at == NOW + 50.0 - DEFAULTS.grace_period
    parts.taken()
    parts.requests.on_hold_ended(HoldEnded(8), NOW + 99.0)
    assert parts.taken() == [], "it ended before"


def test_a_start_that_only_a_holder_wanted_is_given_up_with_the_hold() -> None:
    parts = Parts()
    hold(parts)
    parts.requests.on_hold_ended(HoldEnded(7), NOW)
    assert parts.server() is None
    assert len(parts.state.waiters) == 0


# --- leaving --------------------------------------------------------------------------------


def test_a_start_that_has_not_begun_is_given_up_when_the_last_caller_leaves() -> None:
    parts = Parts()
    ensure(parts, 1)
    ensure(parts, 2)
    parts.requests.on_waiter_left(WaiterLeft(1), NOW)
    assert parts.shown().phase is Phase.QUEUED
    parts.requests.on_waiter_left(WaiterLeft(2), NOW)
    assert parts.server() is None
    parts.requests.on_waiter_left(WaiterLeft(2), NOW)


def test_what_was_named_is_told_to_who_lets_it_be_forgotten() -> None:
    parts = Parts(aliases={"alias": "m"})
    parts.state.namings.add("m", "org/named")
    parts.requests.forget(ForgetRequested(1, "alias"))
    parts.requests.forget(ForgetRequested(2, "m"))
    issued = parts.taken()
    assert answers(issued) == {1: "org/named", 2: ""}
    assert of_kind(issued, RecordNamings) == [RecordNamings({})]


def test_who_names_what_runs_has_it_remembered() -> None:
    parts = Parts()
    settings = replace(DEFAULTS, runtime_model="org/named", asked=True)
    parts.there(settings=settings)
    ensure(parts, 1)
    assert parts.state.namings.get("m") == ""
    ensure(parts, 2, runtime_model="org/named")
    assert parts.state.namings.get("m") == "org/named"
    assert parts.shown().id == M1
