"""Exits of processes, and what comes next: a restart, a backoff, FAILED, or nothing."""

from dataclasses import replace

import pytest

from pool_service.core import failure_display, restart_policy
from pool_service.core import lifecycle as life
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import (
    CleanUp,
    RecordUsage,
)
from pool_service.core.errors import (
    CrashLoop,
    RuntimeUnavailable,
)
from pool_service.core.events import (
    CleanedUp,
    Exited,
)
from pool_service.core.server import Cause, Phase, Role, Server, ServerId, StopSignal
from pool_service.core.table import Row
from pool_service.core.types import Diagnosis, ExitReport
from tests.core.parts import (
    DEFAULTS,
    M1,
    NOW,
    Field,
    Parts,
    answers,
    died,
    ended,
    identity,
    made,
    of_kind,
    refused,
)

UNUSABLE = RuntimeUnavailable("no runtime", model="m")


def request_ids(parts: Parts, model: str = "m") -> list[int | None]:
    return [waiter.request_id for waiter in parts.state.waiters.of(model)]


def cleaned_up(parts: Parts, row: Row) -> None:
    parts.supervisor.on_cleaned_up(row, CleanedUp(row.server.id), NOW)


def exits(parts: Parts, row: Row, report: ExitReport | None = None) -> None:
    parts.supervisor.on_exited(row, Exited(row.server.id, report or died()), NOW)


# --- the end of a process -------------------------------------------------------------------


def test_who_waits_for_a_start_that_dies_is_told_and_what_it_left_is_cleaned_up() -> None:
    parts = Parts()
    parts.waits(1)
    row = parts.there(phase=Phase.STARTING)
    exits(parts, row)
    issued = parts.taken()
    assert refused(issued) == {1: "StartFailed"}
    assert of_kind(issued, CleanUp) == [CleanUp(M1, identity(M1), "", 0.0)]
    assert (row.server.phase, row.server.crashes) == (Phase.CLEANING_UP, (NOW,))


def test_who_waits_for_a_start_that_was_killed_waits_on() -> None:
    parts = Parts()
    parts.waits(1)
    exits(parts, parts.there(phase=Phase.STARTING), died(killed=True))
    assert answers(parts.taken()) == {}
    assert request_ids(parts) == [1]


def test_a_start_whose_ports_are_taken_goes_on_so_many_times_and_then_fails() -> None:
    for lost, is_over in ((3, False), (4, True)):
        parts = Parts(port_attempts=5)
        parts.waits(1)
        row = parts.there(phase=Phase.STARTING)
        row.lost_ports = lost
        exits(parts, row, died(Diagnosis.PORT_TAKEN))
        assert request_ids(parts) == ([] if is_over else [1])
        assert row.lost_ports == (0 if is_over else 5 - 1)


def test_the_death_of_one_that_was_ready_under_an_earlier_service_is_none_of_its_start() -> None:
    parts = Parts()
    parts.waits(1)
    exits(parts, parts.there(phase=Phase.STARTING, ready_at=900.0))
    assert request_ids(parts) == [1]


def test_who_holds_what_dies_waits_for_the_next_one_as_it_was_named() -> None:
    parts = Parts()
    settings = replace(DEFAULTS, runtime_model="org/named", asked=True)
    row = parts.there(settings=settings)
    parts.holds(7)
    exits(parts, row)
    (waiter,) = parts.state.waiters.of("m")
    assert (waiter.request_id, waiter.settings.runtime_model) == (7, "org/named")


def test_an_end_that_was_wished_is_no_crash() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, stop_signal=StopSignal.TERMINATE)
    exits(parts, row)
    assert (row.server.stop_cause, row.server.crashes) == (Cause.EVICTED, ())


@pytest.mark.parametrize(("signal", "drain_time"), [(15, DEFAULTS.drain_timeout), (9, 0.0)])
def test_what_a_gently_ended_process_left_behind_has_time_for_what_is_in_flight(
    signal: int, drain_time: float
) -> None:
    parts = Parts()
    row = parts.there()
    exits(parts, row, ExitReport(None, signal, Diagnosis.CRASHED, "it died"))
    (clean_up,) = of_kind(parts.taken(), CleanUp)
    assert (clean_up.endpoint, clean_up.drain_time) == ("http://m", drain_time)
    parts = Parts()
    parts.state.is_escalated = True
    exits(parts, parts.there(), ExitReport(None, signal, Diagnosis.CRASHED, "it died"))
    assert of_kind(parts.taken(), CleanUp)[0].drain_time == 0.0


def test_an_end_that_is_told_twice_counts_once() -> None:
    parts = Parts()
    row = parts.there()
    exits(parts, row)
    parts.taken()
    exits(parts, row)
    assert parts.taken() == []
    assert row.server.crashes == (NOW,)


@pytest.mark.parametrize(
    ("changes", "diagnosis", "needed"),
    [
        ({"peak": 80, "sampled_ready": True}, Diagnosis.CRASHED, [80]),
        ({"peak": 80, "sampled_ready": False}, Diagnosis.CRASHED, []),
        ({"peak": 0, "sampled_ready": True}, Diagnosis.CRASHED, []),
        ({"peak": 40, "expected": 60}, Diagnosis.OUT_OF_MEMORY, [75]),
        ({"peak": 90, "expected": 60}, Diagnosis.OUT_OF_MEMORY, [100]),
        ({"peak": 110, "expected": 60}, Diagnosis.OUT_OF_MEMORY, [110]),
        ({"expected": 60, "stop_signal": StopSignal.KILL}, Diagnosis.OUT_OF_MEMORY, []),
    ],
)
def test_what_a_process_took_is_learnt_and_more_of_one_that_ran_out_up_to_the_budget(
    changes: dict[str, Field], diagnosis: Diagnosis, needed: list[int]
) -> None:
    parts = Parts(memory_budget=100.0)
    exits(parts, parts.there(**changes), died(diagnosis))
    assert [one.needed for one in of_kind(parts.taken(), RecordUsage)] == needed


# --- what comes next ------------------------------------------------------------------------


def dead(
    parts: Parts, cause: Cause = Cause.CRASHED, report: ExitReport | None = None, **changes: Field
) -> Row:
    """Return a server whose process is being cleaned up after it ended so."""
    row = parts.there(**changes)
    if cause is not Cause.CRASHED:
        parts.state.put(life.stopping(row.server, cause))
    exits(parts, row, report)
    parts.taken()
    return row


def test_what_had_served_is_started_again_at_once_for_who_waits() -> None:
    parts = Parts()
    row = dead(parts)
    parts.waits(1)
    cleaned_up(parts, row)
    assert (parts.shown().phase, parts.shown().generation) == (Phase.QUEUED, 2)
    assert parts.shown().crashes == (NOW,)
    assert answers(parts.taken()) == {}


def test_what_dies_again_and_again_is_started_after_a_pause() -> None:
    parts = Parts()
    row = dead(parts, crashes=(NOW - 20.0,))
    parts.waits(1)
    pause = restart_policy.delay(row.server, parts.state.limits)
    assert pause > 0
    cleaned_up(parts, row)
    server = parts.shown()
    assert (server.phase, server.generation) == (Phase.BACKING_OFF, 2)
    assert server.step_deadline == server.retry_at == NOW + pause
    assert request_ids(parts) == [1]


@pytest.mark.parametrize(("deaths", "is_loop"), [(3, False), (4, True)])
def test_what_died_too_often_is_left_alone_and_who_waits_is_told(
    deaths: int, is_loop: bool
) -> None:
    parts = Parts(crash_limit=5, backoff_max=30.0)
    row = dead(parts, crashes=(NOW - 20.0,) * deaths)
    parts.waits(1)
    cleaned_up(parts, row)
    assert refused(parts.taken()) == ({1: "CrashLoop"} if is_loop else {})
    server = parts.shown()
    assert server.phase is (Phase.FAILED if is_loop else Phase.BACKING_OFF)
    if is_loop:
        assert isinstance(server.failure, CrashLoop)
        assert server.retry_at == NOW + 30.0


def test_a_reason_that_stays_bars_another_start_for_a_moment() -> None:
    parts = Parts(failure_memory=2.0)
    row = dead(parts, report=died(Diagnosis.MODEL_REJECTED))
    parts.waits(1)
    cleaned_up(parts, row)
    assert refused(parts.taken()) == {1: "ModelRejected"}
    assert parts.shown().retry_at == NOW + 2.0


def test_what_died_and_is_wanted_by_nobody_is_shown_as_failed_for_a_while() -> None:
    parts = Parts(failure_ttl=600.0)
    row = dead(parts)
    cleaned_up(parts, row)
    server = parts.shown()
    assert (server.phase, server.generation, server.failure) == (Phase.FAILED, 1, None)
    assert parts.state.deadlines.next() == NOW + 600.0


def test_the_next_of_another_runtime_model_is_not_held_back_by_the_deaths_of_this_one() -> None:
    parts = Parts(crash_limit=1)
    row = dead(parts)
    parts.waits(1, runtime_model="org/other")
    cleaned_up(parts, row)
    assert (parts.shown().phase, parts.shown().crashes) == (Phase.QUEUED, ())


@pytest.mark.parametrize("cause", [Cause.IDLE, Cause.PREEMPTED, Cause.RELOADED, Cause.EVICTED])
def test_what_was_wished_to_end_is_forgotten_unless_somebody_waits(cause: Cause) -> None:
    for is_wanted in (False, True):
        parts = Parts()
        row = dead(parts, cause)
        if is_wanted:
            parts.waits(1)
        cleaned_up(parts, row)
        after = parts.server()
        assert (after.phase if after else None) is (Phase.QUEUED if is_wanted else None)


def test_an_eviction_is_answered_when_nothing_is_left_and_makes_good_all_deaths() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, crashes=(1.0, 2.0))
    eviction = parts.evicts(9, row, force=True)
    exits(parts, row)
    assert answers(parts.taken()) == {}
    parts.waits(1)
    parts.supervisor.on_cleaned_up(row, CleanedUp(M1, killed=True), NOW)
    (removed,) = eviction.removed
    assert (removed.server.id, removed.killed) == (M1, True)
    assert list(answers(parts.taken())) == [9]
    assert (parts.shown().phase, parts.shown().crashes) == (Phase.QUEUED, ())


def test_what_dies_during_its_eviction_is_evicted_and_not_shown_as_failed() -> None:
    parts = Parts()
    row = parts.there()
    parts.evicts(9, row)
    exits(parts, row)
    cleaned_up(parts, row)
    assert parts.server() is None
    assert list(answers(parts.taken())) == [9]


def test_who_waits_for_what_is_served_no_longer_is_told_when_its_process_is_gone() -> None:
    parts = Parts()
    row = dead(parts, Cause.RELOADED)
    parts.waits(1)
    parts.state.catalogue = Catalogue(DEFAULTS, only_listed=True)
    cleaned_up(parts, row)
    assert refused(parts.taken()) == {1: "ModelUnknown"}
    assert parts.server() is None


NOT_SERVED = [Catalogue(DEFAULTS, only_listed=True), Catalogue(DEFAULTS, aliases={"m": "other"})]


@pytest.mark.parametrize("catalogue", NOT_SERVED, ids=["not listed", "an alias"])
@pytest.mark.parametrize("is_wedged", [True, False])
@pytest.mark.parametrize("is_held", [True, False])
def test_what_is_served_no_longer_is_not_started_again_for_its_pin_or_its_holders(
    catalogue: Catalogue, is_wedged: bool, is_held: bool
) -> None:
    parts = Parts()
    parts.state.pins.set("m", pinned=True)
    row = parts.there(settings=replace(DEFAULTS, runtime_model="m", pinned=True))
    if is_held:
        parts.holds(1)
    parts.state.catalogue = catalogue
    if is_wedged:
        parts.supervisor.supersede(row.server, "it fell silent", NOW)
    exits(parts, row)
    assert parts.state.waiters.of("m") == [] or is_held
    issued = parts.taken()
    cleaned_up(parts, row)
    assert refused([*issued, *parts.taken()]) == ({1: "ModelUnknown"} if is_held else {})
    assert {one.server.phase for one in parts.state.table} == {Phase.FAILED}
    assert parts.state.waiters.of("m") == []


def test_a_pinned_model_that_is_not_served_as_it_was_named_is_started_as_it_is_listed() -> None:
    parts = Parts()
    parts.state.pins.set("m", pinned=True)
    named = replace(DEFAULTS, runtime_model="org/named", asked=True, pinned=True)
    row = parts.there(settings=named)
    parts.state.catalogue = Parts({"m": DEFAULTS}, only_listed=True).state.catalogue
    parts.supervisor.supersede(row.server, "it fell silent", NOW)
    assert parts.shown().settings.runtime_model == "m"


def test_what_was_not_cleaned_up_is_not_gone() -> None:
    parts = Parts()
    cleaned_up(parts, parts.there(phase=Phase.STOPPING))
    assert parts.taken() == []


def superseded(parts: Parts) -> Server:
    """Return a server that was superseded since it was wedged, and has ended by now."""
    parts.supervisor.supersede(parts.there().server, "it fell silent", NOW)
    row = parts.state.table.find(M1)
    assert row is not None
    exits(parts, row)
    return row.server


def test_a_superseded_server_that_is_gone_is_the_models_failed_one_where_none_came() -> None:
    parts = Parts()
    superseded(parts)
    row = parts.state.table.find(M1)
    assert row is not None
    cleaned_up(parts, row)
    server = parts.shown()
    assert (server.phase, server.role, server.generation) == (Phase.FAILED, Role.CURRENT, 1)


def test_how_a_superseded_server_ended_is_told_of_the_one_in_its_place() -> None:
    parts = Parts()
    before = superseded(parts)
    parts.there(phase=Phase.STARTING, generation=2)
    row = parts.state.table.find(M1)
    assert row is not None
    cleaned_up(parts, row)
    assert parts.server(generation=1) is None
    assert parts.shown().last_exit == before.last_exit
    assert parts.shown().phase is Phase.STARTING


# --- giving up ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "after"),
    [
        (Phase.QUEUED, None),
        (Phase.BACKING_OFF, Phase.FAILED),
        (Phase.PREPARING, Phase.PREPARING),
        (Phase.STARTING, Phase.STARTING),
    ],
)
def test_only_a_start_that_has_not_begun_is_given_up_when_nobody_waits(
    phase: Phase, after: Phase | None
) -> None:
    for is_wanted in (False, True):
        parts = Parts()
        parts.there(phase=phase, generation=2, last_exit=ended(made()).last_exit)
        if is_wanted:
            parts.waits(1)
        parts.supervisor.give_up_unwanted("m", NOW)
        now = parts.server()
        assert (now.phase if now else None) is (phase if is_wanted else after)
        if now and now.phase is Phase.FAILED:
            assert now.generation == 1, "the generation that died"


def test_of_many_failed_servers_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_display, "MAX_FAILED", 2)
    parts = Parts()
    for model in "abc":
        died_before = ended(made(model)).last_exit
        server = parts.there(model, Phase.BACKING_OFF, 2, last_exit=died_before).server
        parts.supervisor.give_up(server, NOW)
    assert [row.server.model for row in parts.state.table] == ["b", "c"]


def test_a_start_that_broke_by_a_fault_of_ours_is_failed_and_told() -> None:
    parts = Parts(failure_memory=2.0)
    parts.waits(1)
    row = parts.there(phase=Phase.SPAWNING)
    parts.supervisor.show_failed_start(row.server, UNUSABLE, NOW)
    assert answers(parts.taken()) == {1: UNUSABLE}
    server = parts.shown()
    assert (server.phase, server.failure) == (Phase.FAILED, UNUSABLE)
    assert server.id == ServerId("m", 1)
