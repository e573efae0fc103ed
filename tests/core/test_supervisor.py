"""Starts and ends of processes, and what comes after an end."""

from dataclasses import replace

import pytest

from pool_service.core import lifecycle as life
from pool_service.core import failed_servers, restart_policy
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import (
    AwaitExit,
    AwaitReady,
    CleanUp,
    EstimateMemory,
    RecordUsage,
    Spawn,
)
from pool_service.core.errors import (
    CrashLoop,
    RuntimeUnavailable,
)
from pool_service.core.events import (
    CleanedUp,
    EvictRequested,
    Exited,
    HoldRequested,
    NotStarted,
    Prepared,
    Spawned,
)
from pool_service.core.results import Every
from pool_service.core.server import Cause, LastRun, Phase, Role, Server, ServerId, StopSignal
from pool_service.core.table import Record
from pool_service.core.types import Diagnosis, ExitReport, SpawnedProcess
from tests.core.acting import drive, plan
from tests.core.parts import (
    DEFAULTS,
    M1,
    M2,
    NOW,
    Field,
    Parts,
    answers,
    died,
    ended,
    identity,
    kinds,
    made,
    of_kind,
    refused,
)
from tests.core.pools import LOST, one_ready, shown

UNUSABLE = RuntimeUnavailable("no runtime", model="m")
PROCESS = SpawnedProcess(identity(M1), "/logs/m/1")


def request_ids(parts: Parts, model: str = "m") -> list[int | None]:
    return [waiter.request_id for waiter in parts.state.waiters.of(model)]


def cleaned_up(parts: Parts, record: Record) -> None:
    parts.supervisor.on_cleaned_up(record, CleanedUp(record.server.id), NOW)


def exits(parts: Parts, record: Record, report: ExitReport | None = None) -> None:
    parts.supervisor.on_exited(record, Exited(record.server.id, report or died()), NOW)


# --- starting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "generation"),
    [(None, 1), (LastRun("m", 4, None), 5), (LastRun("m", 4, None, given=6), 7)],
)
def test_the_next_generation_waits_until_its_need_is_known(
    known: LastRun | None, generation: int
) -> None:
    parts = Parts()
    parts.waits(1, runtime_model="org/other")
    parts.supervisor.enqueue("m", known, NOW)
    server = parts.shown()
    assert (server.phase, server.generation) == (Phase.QUEUED, generation)
    assert server.settings.runtime_model == "org/other", "as the first wants it who waits"
    assert parts.state.queue == {server.id: NOW}
    assert of_kind(parts.taken(), EstimateMemory) == [EstimateMemory(server.id, server.settings)]


def test_the_next_generation_takes_the_place_of_the_one_before_with_its_lost_ports() -> None:
    parts = Parts()
    parts.waits(1)
    record = parts.there(phase=Phase.CLEANING_UP)
    record.lost_ports = 3
    parts.supervisor.enqueue("m", record.server, NOW)
    assert [one.server.id for one in parts.state.table] == [M2]
    after = parts.state.table.find(M2)
    assert after is not None
    assert after.lost_ports == 3


def test_a_process_is_spawned_as_prepared_and_only_once() -> None:
    parts = Parts()
    record = parts.there(phase=Phase.PREPARING)
    event = Prepared(M1, plan("m", 1))
    parts.supervisor.on_prepared(record, event)
    assert of_kind(parts.taken(), Spawn) == [Spawn(M1, event.plan)]
    parts.supervisor.on_prepared(record, event)
    assert parts.taken() == []


def test_a_process_is_watched_and_its_start_limit_begins() -> None:
    parts = Parts()
    record = parts.there(phase=Phase.SPAWNING, plan=plan("m", 1))
    parts.supervisor.on_spawned(record, Spawned(M1, PROCESS), NOW)
    assert (record.server.phase, record.server.identity) == (Phase.STARTING, identity(M1))
    assert record.server.step_deadline == NOW + DEFAULTS.start_timeout
    issued = parts.taken()
    assert of_kind(issued, AwaitExit) == [AwaitExit(M1, identity(M1))]
    (ready,) = of_kind(issued, AwaitReady)
    assert not ready.again


def test_a_process_whose_end_was_wished_meanwhile_is_watched_and_told_to_end() -> None:
    parts = Parts()
    record = parts.there(phase=Phase.STOPPING, identity=None, ready_at=None)
    parts.supervisor.on_spawned(record, Spawned(M1, PROCESS), NOW)
    assert kinds(parts.taken()) == ["AwaitExit", "SendSignal"]
    assert record.server.phase is Phase.STOPPING


def test_a_process_that_is_told_twice_changes_nothing() -> None:
    parts = Parts()
    record = parts.there()
    parts.supervisor.on_spawned(record, Spawned(M1, PROCESS), NOW)
    assert parts.taken() == []


# --- a start without a process --------------------------------------------------------------


def test_a_failed_start_is_told_remembered_for_a_moment_and_not_shown() -> None:
    parts = Parts(failure_memory=2.0)
    parts.waits(1)
    parts.waits(2)
    record = parts.there(phase=Phase.PREPARING)
    parts.supervisor.on_not_started(record, NotStarted(M1, UNUSABLE), NOW)
    assert answers(parts.taken()) == {1: UNUSABLE, 2: UNUSABLE}
    assert parts.server() is None
    find = parts.state.failed_starts.find
    assert find("m", "m", NOW + 1.9) is UNUSABLE
    assert find("m", "m", NOW + 2.0) is None
    assert find("m", "org/other", NOW) is None


@pytest.mark.parametrize(
    ("ago", "cause", "phase"),
    [
        (599.9, Cause.CRASHED, Phase.FAILED),
        (600.0, Cause.CRASHED, None),
        (1.0, Cause.IDLE, None),
    ],
)
def test_what_is_shown_of_a_process_that_died_lately_stays_over_a_failed_start(
    ago: float, cause: Cause, phase: Phase | None
) -> None:
    parts = Parts(failure_ttl=600.0, failure_memory=2.0)
    before = ended(parts.there(phase=Phase.PREPARING).server, cause, at=NOW - ago)
    parts.state.put(before)
    record = parts.state.table.find(M1)
    assert record is not None
    parts.supervisor.on_not_started(record, NotStarted(M1, UNUSABLE), NOW)
    after = parts.server()
    assert (after.phase if after else None) is phase
    if after:
        assert (after.failure, after.retry_at) == (UNUSABLE, NOW + 2.0)


def test_a_successor_that_does_not_start_costs_no_caller_of_its_model_anything() -> None:
    parts = Parts()
    parts.waits(1)
    parts.there()
    record = parts.there(phase=Phase.PREPARING, generation=2, role=Role.SUCCESSOR)
    parts.supervisor.on_not_started(record, NotStarted(M2, UNUSABLE), NOW)
    assert answers(parts.taken()) == {}
    assert parts.server(generation=2) is None
    assert parts.shown().phase is Phase.READY
    assert parts.state.failed_starts.find("m", "m", NOW) is None


def test_a_start_that_was_to_stop_and_got_no_process_is_gone() -> None:
    parts = Parts()
    record = parts.there(phase=Phase.STOPPING, identity=None)
    parts.evicts(9, record)
    parts.supervisor.on_not_started(record, NotStarted(M1, UNUSABLE), NOW)
    assert parts.server() is None
    assert list(answers(parts.taken())) == [9]


# --- stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "issued"),
    [
        (Phase.QUEUED, []),
        (Phase.PREPARING, ["CancelPrepare"]),
        (Phase.BACKING_OFF, []),
        (Phase.FAILED, []),
    ],
)
def test_what_has_no_process_is_gone_at_once(phase: Phase, issued: list[str]) -> None:
    parts = Parts()
    record = parts.there(phase=phase)
    parts.supervisor.stop(record.server, Cause.EVICTED, NOW)
    assert parts.server() is None
    assert kinds(parts.taken()) == issued


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.CLEANING_UP])
def test_what_is_leaving_is_not_stopped_twice_and_keeps_its_cause(phase: Phase) -> None:
    parts = Parts()
    record = parts.there(phase=phase)
    parts.supervisor.stop(record.server, Cause.SHUTDOWN, NOW)
    assert parts.taken() == []
    assert record.server.stop_cause is Cause.EVICTED


@pytest.mark.parametrize(
    ("cause", "waiting"),
    [
        (Cause.PREEMPTED, [7]),
        (Cause.MEMORY_LIMIT, [7, None]),
        (Cause.EVICTED, []),
        (Cause.SHUTDOWN, []),
    ],
)
def test_who_holds_what_stops_waits_for_the_next_one_unless_that_was_our_own_wish(
    cause: Cause, waiting: list[int | None]
) -> None:
    parts = Parts()
    record = parts.there()
    parts.holds(7)
    parts.supervisor.stop(record.server, cause, NOW)
    assert request_ids(parts) == waiting


def test_what_is_pinned_comes_again_by_itself_but_not_when_the_service_ends() -> None:
    for is_closing, waiting in ((False, [None]), (True, [])):
        parts = Parts(defaults=replace(DEFAULTS, pinned=True))
        record = parts.there()
        parts.state.is_closing = is_closing
        parts.supervisor.stop(record.server, Cause.RELOADED, NOW)
        assert request_ids(parts) == waiting


def test_what_was_recycled_comes_again_with_its_keep_alive() -> None:
    parts = Parts()
    record = parts.there(keep_alive=77.0)
    parts.supervisor.stop(record.server, Cause.MEMORY_LIMIT, NOW)
    (waiter,) = parts.state.waiters.of("m")
    assert (waiter.request_id, waiter.keep_alive) == (None, 77.0)


def test_the_end_of_a_replaced_server_starts_nothing_for_those_who_hold_the_next_one() -> None:
    parts = Parts()
    record = parts.there(role=Role.SUPERSEDED)
    parts.there(generation=2)
    parts.holds(7)
    parts.supervisor.stop(record.server, Cause.MEMORY_LIMIT, NOW)
    assert record.server.phase is Phase.STOPPING
    assert request_ids(parts) == []


# --- one that serves no longer --------------------------------------------------------------


def test_who_waits_for_a_superseded_server_gets_the_next_while_that_one_drains() -> None:
    parts = Parts()
    record = parts.there()
    parts.holds(7)
    parts.supervisor.supersede(record.server, "it fell silent", NOW)
    before = parts.shown(generation=1)
    assert (before.role, before.phase) == (Role.SUPERSEDED, Phase.STOPPING)
    assert (before.stop_cause, before.detail) == (Cause.WEDGED, "it fell silent")
    assert before.crashes == (NOW,)
    now = parts.shown()
    assert (now.generation, now.phase, now.holds) == (2, Phase.QUEUED, 1)
    assert request_ids(parts) == [7]


def test_where_nobody_wants_the_model_a_superseded_server_goes_alone() -> None:
    parts = Parts()
    record = parts.there()
    parts.supervisor.supersede(record.server, "it fell silent", NOW)
    assert parts.server() is None
    assert len(parts.state.table) == 1


def test_a_model_has_two_processes_at_most() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING, role=Role.SUPERSEDED)
    record = parts.there(generation=2)
    parts.holds(7)
    parts.supervisor.supersede(record.server, "it fell silent", NOW)
    assert (record.server.role, record.server.phase) == (Role.CURRENT, Phase.STOPPING)
    assert record.server.stop_cause is Cause.WEDGED
    assert len(parts.state.table) == 2


def test_a_successor_that_starts_yet_does_not_keep_a_server_from_being_superseded() -> None:
    parts = Parts()
    record = parts.there()
    parts.there(phase=Phase.STARTING, generation=2, role=Role.SUCCESSOR)
    parts.supervisor.supersede(record.server, "it fell silent", NOW)
    assert record.server.role is Role.SUPERSEDED


@pytest.mark.parametrize(("is_held", "cause"), [(False, Cause.EVICTED), (True, Cause.WEDGED)])
def test_what_serves_no_longer_during_its_eviction_is_evicted_unless_it_is_held(
    is_held: bool, cause: Cause
) -> None:
    parts = Parts()
    record = parts.there()
    if is_held:
        parts.holds(7)
    parts.evicts(9, record)
    parts.supervisor.supersede(record.server, "it fell silent", NOW)
    assert (record.server.role, record.server.stop_cause) == (Role.CURRENT, cause)


# --- the end of a process -------------------------------------------------------------------


def test_who_waits_for_a_start_that_dies_is_told_and_what_it_left_is_cleaned_up() -> None:
    parts = Parts()
    parts.waits(1)
    record = parts.there(phase=Phase.STARTING)
    exits(parts, record)
    issued = parts.taken()
    assert refused(issued) == {1: "StartFailed"}
    assert of_kind(issued, CleanUp) == [CleanUp(M1, identity(M1), "", 0.0)]
    assert (record.server.phase, record.server.crashes) == (Phase.CLEANING_UP, (NOW,))


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
        record = parts.there(phase=Phase.STARTING)
        record.lost_ports = lost
        exits(parts, record, died(Diagnosis.PORT_TAKEN))
        assert request_ids(parts) == ([] if is_over else [1])
        assert record.lost_ports == (0 if is_over else 5 - 1)


def test_the_death_of_one_that_was_ready_under_an_earlier_service_is_none_of_its_start() -> None:
    parts = Parts()
    parts.waits(1)
    exits(parts, parts.there(phase=Phase.STARTING, ready_at=900.0))
    assert request_ids(parts) == [1]


def test_who_holds_what_dies_waits_for_the_next_one_as_it_was_named() -> None:
    parts = Parts()
    settings = replace(DEFAULTS, runtime_model="org/named", asked=True)
    record = parts.there(settings=settings)
    parts.holds(7)
    exits(parts, record)
    (waiter,) = parts.state.waiters.of("m")
    assert (waiter.request_id, waiter.settings.runtime_model) == (7, "org/named")


def test_an_end_that_was_wished_is_no_crash() -> None:
    parts = Parts()
    record = parts.there(phase=Phase.STOPPING, stop_signal=StopSignal.TERMINATE)
    exits(parts, record)
    assert (record.server.stop_cause, record.server.crashes) == (Cause.EVICTED, ())


@pytest.mark.parametrize(("signal", "drain_time"), [(15, DEFAULTS.drain_timeout), (9, 0.0)])
def test_what_a_gently_ended_process_left_behind_has_time_for_what_is_in_flight(
    signal: int, drain_time: float
) -> None:
    parts = Parts()
    record = parts.there()
    exits(parts, record, ExitReport(None, signal, Diagnosis.CRASHED, "it died"))
    (clean_up,) = of_kind(parts.taken(), CleanUp)
    assert (clean_up.endpoint, clean_up.drain_time) == ("http://m", drain_time)
    parts = Parts()
    parts.state.is_escalated = True
    exits(parts, parts.there(), ExitReport(None, signal, Diagnosis.CRASHED, "it died"))
    assert of_kind(parts.taken(), CleanUp)[0].drain_time == 0.0


def test_an_end_that_is_told_twice_counts_once() -> None:
    parts = Parts()
    record = parts.there()
    exits(parts, record)
    parts.taken()
    exits(parts, record)
    assert parts.taken() == []
    assert record.server.crashes == (NOW,)


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
) -> Record:
    """Return a server whose process is being cleaned up after it ended so."""
    record = parts.there(**changes)
    if cause is not Cause.CRASHED:
        parts.state.put(life.stopping(record.server, cause))
    exits(parts, record, report)
    parts.taken()
    return record


def test_what_had_served_is_started_again_at_once_for_who_waits() -> None:
    parts = Parts()
    record = dead(parts)
    parts.waits(1)
    cleaned_up(parts, record)
    assert (parts.shown().phase, parts.shown().generation) == (Phase.QUEUED, 2)
    assert parts.shown().crashes == (NOW,)
    assert answers(parts.taken()) == {}


def test_what_dies_again_and_again_is_started_after_a_pause() -> None:
    parts = Parts()
    record = dead(parts, crashes=(NOW - 20.0,))
    parts.waits(1)
    pause = restart_policy.delay(record.server, parts.state.limits)
    assert pause > 0
    cleaned_up(parts, record)
    server = parts.shown()
    assert (server.phase, server.generation) == (Phase.BACKING_OFF, 2)
    assert server.step_deadline == server.retry_at == NOW + pause
    assert request_ids(parts) == [1]


@pytest.mark.parametrize(("deaths", "is_loop"), [(3, False), (4, True)])
def test_what_died_too_often_is_left_alone_and_who_waits_is_told(
    deaths: int, is_loop: bool
) -> None:
    parts = Parts(crash_limit=5, backoff_max=30.0)
    record = dead(parts, crashes=(NOW - 20.0,) * deaths)
    parts.waits(1)
    cleaned_up(parts, record)
    assert refused(parts.taken()) == ({1: "CrashLoop"} if is_loop else {})
    server = parts.shown()
    assert server.phase is (Phase.FAILED if is_loop else Phase.BACKING_OFF)
    if is_loop:
        assert isinstance(server.failure, CrashLoop)
        assert server.retry_at == NOW + 30.0


def test_a_reason_that_stays_bars_another_start_for_a_moment() -> None:
    parts = Parts(failure_memory=2.0)
    record = dead(parts, report=died(Diagnosis.MODEL_REJECTED))
    parts.waits(1)
    cleaned_up(parts, record)
    assert refused(parts.taken()) == {1: "ModelRejected"}
    assert parts.shown().retry_at == NOW + 2.0


def test_what_died_and_is_wanted_by_nobody_is_shown_as_failed_for_a_while() -> None:
    parts = Parts(failure_ttl=600.0)
    record = dead(parts)
    cleaned_up(parts, record)
    server = parts.shown()
    assert (server.phase, server.generation, server.failure) == (Phase.FAILED, 1, None)
    assert parts.state.deadlines.next() == NOW + 600.0


def test_the_next_of_another_runtime_model_is_not_held_back_by_the_deaths_of_this_one() -> None:
    parts = Parts(crash_limit=1)
    record = dead(parts)
    parts.waits(1, runtime_model="org/other")
    cleaned_up(parts, record)
    assert (parts.shown().phase, parts.shown().crashes) == (Phase.QUEUED, ())


@pytest.mark.parametrize("cause", [Cause.IDLE, Cause.PREEMPTED, Cause.RELOADED, Cause.EVICTED])
def test_what_was_wished_to_end_is_forgotten_unless_somebody_waits(cause: Cause) -> None:
    for is_wanted in (False, True):
        parts = Parts()
        record = dead(parts, cause)
        if is_wanted:
            parts.waits(1)
        cleaned_up(parts, record)
        after = parts.server()
        assert (after.phase if after else None) is (Phase.QUEUED if is_wanted else None)


def test_an_eviction_is_answered_when_nothing_is_left_and_makes_good_all_deaths() -> None:
    parts = Parts()
    record = parts.there(phase=Phase.STOPPING, crashes=(1.0, 2.0))
    eviction = parts.evicts(9, record, force=True)
    exits(parts, record)
    assert answers(parts.taken()) == {}
    parts.waits(1)
    parts.supervisor.on_cleaned_up(record, CleanedUp(M1, killed=True), NOW)
    (removed,) = eviction.removed
    assert (removed.server.id, removed.killed) == (M1, True)
    assert list(answers(parts.taken())) == [9]
    assert (parts.shown().phase, parts.shown().crashes) == (Phase.QUEUED, ())


def test_what_dies_during_its_eviction_is_evicted_and_not_shown_as_failed() -> None:
    parts = Parts()
    record = parts.there()
    parts.evicts(9, record)
    exits(parts, record)
    cleaned_up(parts, record)
    assert parts.server() is None
    assert list(answers(parts.taken())) == [9]


def test_who_waits_for_what_is_served_no_longer_is_told_when_its_process_is_gone() -> None:
    parts = Parts()
    record = dead(parts, Cause.RELOADED)
    parts.waits(1)
    parts.state.catalogue = Catalogue(DEFAULTS, only_listed=True)
    cleaned_up(parts, record)
    assert refused(parts.taken()) == {1: "ModelUnknown"}
    assert parts.server() is None


def test_what_was_not_cleaned_up_is_not_gone() -> None:
    parts = Parts()
    cleaned_up(parts, parts.there(phase=Phase.STOPPING))
    assert parts.taken() == []


def superseded(parts: Parts) -> Server:
    """Return a server that was superseded since it was wedged, and has ended by now."""
    parts.supervisor.supersede(parts.there().server, "it fell silent", NOW)
    record = parts.state.table.find(M1)
    assert record is not None
    exits(parts, record)
    return record.server


def test_a_superseded_server_that_is_gone_is_the_models_failed_one_where_none_came() -> None:
    parts = Parts()
    superseded(parts)
    record = parts.state.table.find(M1)
    assert record is not None
    cleaned_up(parts, record)
    server = parts.shown()
    assert (server.phase, server.role, server.generation) == (Phase.FAILED, Role.CURRENT, 1)


def test_how_a_superseded_server_ended_is_told_of_the_one_in_its_place() -> None:
    parts = Parts()
    before = superseded(parts)
    parts.there(phase=Phase.STARTING, generation=2)
    record = parts.state.table.find(M1)
    assert record is not None
    cleaned_up(parts, record)
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
    monkeypatch.setattr(failed_servers, "MAX_FAILED", 2)
    parts = Parts()
    for model in "abc":
        died_before = ended(made(model)).last_exit
        server = parts.there(model, Phase.BACKING_OFF, 2, last_exit=died_before).server
        parts.supervisor.give_up(server, NOW)
    assert [record.server.model for record in parts.state.table] == ["b", "c"]


def test_a_start_that_broke_by_a_fault_of_ours_is_failed_and_told() -> None:
    parts = Parts(failure_memory=2.0)
    parts.waits(1)
    record = parts.there(phase=Phase.SPAWNING)
    parts.supervisor.show_failed_start(record.server, UNUSABLE, NOW)
    assert answers(parts.taken()) == {1: UNUSABLE}
    server = parts.shown()
    assert (server.phase, server.failure) == (Phase.FAILED, UNUSABLE)
    assert server.id == ServerId("m", 1)


# --- through the machine ---------------------------------------------------------------------


def test_who_holds_what_loses_its_listener_during_an_eviction_gets_the_next() -> None:
    ledger = one_ready()
    ledger.handle(EvictRequested(2, Every.ALL))
    ledger.handle(HoldRequested(3, "a"))
    ledger.handle(LOST)
    drive(ledger)
    server = shown(ledger, "a")
    assert (server.phase, server.generation, server.holds) == (Phase.READY, 2, 1)
    assert not ledger.evicting
