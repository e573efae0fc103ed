"""Starts and stops of processes, and servers that are superseded."""

from dataclasses import replace

import pytest

from pool_service.core.commands import (
    AwaitExit,
    AwaitReady,
    EstimateMemory,
    Spawn,
)
from pool_service.core.errors import (
    RuntimeUnavailable,
)
from pool_service.core.events import (
    EvictRequested,
    HoldRequested,
    NotStarted,
    Prepared,
    Spawned,
)
from pool_service.core.results import Every
from pool_service.core.server import Cause, LastRun, Phase, Role
from pool_service.core.types import SpawnedProcess
from tests.core.acting import drive, plan
from tests.core.parts import (
    DEFAULTS,
    M1,
    M2,
    NOW,
    Parts,
    answers,
    ended,
    identity,
    kinds,
    of_kind,
)
from tests.core.pools import LOST, one_ready, shown

UNUSABLE = RuntimeUnavailable("no runtime", model="m")
PROCESS = SpawnedProcess(identity(M1), "/logs/m/1")


def request_ids(parts: Parts, model: str = "m") -> list[int | None]:
    return [waiter.request_id for waiter in parts.state.waiters.of(model)]


# --- starting -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "generation"),
    [(None, 1), (LastRun("m", 4, None), 5), (LastRun("m", 4, None, successor_generation=6), 7)],
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
    row = parts.there(phase=Phase.CLEANING_UP)
    row.lost_ports = 3
    parts.supervisor.enqueue("m", row.server, NOW)
    assert [one.server.id for one in parts.state.table] == [M2]
    after = parts.state.table.find(M2)
    assert after is not None
    assert after.lost_ports == 3


def test_a_process_is_spawned_as_prepared_and_only_once() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.PREPARING)
    event = Prepared(M1, plan("m", 1))
    parts.supervisor.on_prepared(row, event)
    assert of_kind(parts.taken(), Spawn) == [Spawn(M1, event.plan)]
    parts.supervisor.on_prepared(row, event)
    assert parts.taken() == []


def test_a_process_is_watched_and_its_start_limit_begins() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.SPAWNING, plan=plan("m", 1))
    parts.supervisor.on_spawned(row, Spawned(M1, PROCESS), NOW)
    assert (row.server.phase, row.server.identity) == (Phase.STARTING, identity(M1))
    assert row.server.step_deadline == NOW + DEFAULTS.start_timeout
    issued = parts.taken()
    assert of_kind(issued, AwaitExit) == [AwaitExit(M1, identity(M1))]
    (ready,) = of_kind(issued, AwaitReady)
    assert not ready.again


def test_a_process_whose_end_was_wished_meanwhile_is_watched_and_told_to_end() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, identity=None, ready_at=None)
    parts.supervisor.on_spawned(row, Spawned(M1, PROCESS), NOW)
    assert kinds(parts.taken()) == ["AwaitExit", "SendSignal"]
    assert row.server.phase is Phase.STOPPING


def test_a_process_that_is_told_twice_changes_nothing() -> None:
    parts = Parts()
    row = parts.there()
    parts.supervisor.on_spawned(row, Spawned(M1, PROCESS), NOW)
    assert parts.taken() == []


# --- a start without a process --------------------------------------------------------------


def test_a_failed_start_is_told_remembered_for_a_moment_and_not_shown() -> None:
    parts = Parts(failure_memory=2.0)
    parts.waits(1)
    parts.waits(2)
    row = parts.there(phase=Phase.PREPARING)
    parts.supervisor.on_not_started(row, NotStarted(M1, UNUSABLE), NOW)
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
    row = parts.state.table.find(M1)
    assert row is not None
    parts.supervisor.on_not_started(row, NotStarted(M1, UNUSABLE), NOW)
    after = parts.server()
    assert (after.phase if after else None) is phase
    if after:
        assert (after.failure, after.retry_at) == (UNUSABLE, NOW + 2.0)


def test_a_successor_that_does_not_start_costs_no_caller_of_its_model_anything() -> None:
    parts = Parts()
    parts.waits(1)
    parts.there()
    row = parts.there(phase=Phase.PREPARING, generation=2, role=Role.SUCCESSOR)
    parts.supervisor.on_not_started(row, NotStarted(M2, UNUSABLE), NOW)
    assert answers(parts.taken()) == {}
    assert parts.server(generation=2) is None
    assert parts.shown().phase is Phase.READY
    assert parts.state.failed_starts.find("m", "m", NOW) is None


def test_a_start_that_was_to_stop_and_got_no_process_is_gone() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STOPPING, identity=None)
    parts.evicts(9, row)
    parts.supervisor.on_not_started(row, NotStarted(M1, UNUSABLE), NOW)
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
    row = parts.there(phase=phase)
    parts.supervisor.stop(row.server, Cause.EVICTED, NOW)
    assert parts.server() is None
    assert kinds(parts.taken()) == issued


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.CLEANING_UP])
def test_what_is_leaving_is_not_stopped_twice_and_keeps_its_cause(phase: Phase) -> None:
    parts = Parts()
    row = parts.there(phase=phase)
    parts.supervisor.stop(row.server, Cause.SHUTDOWN, NOW)
    assert parts.taken() == []
    assert row.server.stop_cause is Cause.EVICTED


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
    row = parts.there()
    parts.holds(7)
    parts.supervisor.stop(row.server, cause, NOW)
    assert request_ids(parts) == waiting


def test_what_is_pinned_comes_again_by_itself_but_not_when_the_service_ends() -> None:
    for is_closing, waiting in ((False, [None]), (True, [])):
        parts = Parts(defaults=replace(DEFAULTS, pinned=True))
        row = parts.there()
        parts.state.is_closing = is_closing
        parts.supervisor.stop(row.server, Cause.RELOADED, NOW)
        assert request_ids(parts) == waiting


def test_what_was_recycled_comes_again_with_its_keep_alive() -> None:
    parts = Parts()
    row = parts.there(keep_alive=77.0)
    parts.supervisor.stop(row.server, Cause.MEMORY_LIMIT, NOW)
    (waiter,) = parts.state.waiters.of("m")
    assert (waiter.request_id, waiter.keep_alive) == (None, 77.0)


def test_the_end_of_a_replaced_server_starts_nothing_for_those_who_hold_the_next_one() -> None:
    parts = Parts()
    row = parts.there(role=Role.SUPERSEDED)
    parts.there(generation=2)
    parts.holds(7)
    parts.supervisor.stop(row.server, Cause.MEMORY_LIMIT, NOW)
    assert row.server.phase is Phase.STOPPING
    assert request_ids(parts) == []


# --- one that serves no longer --------------------------------------------------------------


def test_who_waits_for_a_superseded_server_gets_the_next_while_that_one_drains() -> None:
    parts = Parts()
    row = parts.there()
    parts.holds(7)
    parts.supervisor.supersede(row.server, "it fell silent", NOW)
    before = parts.shown(generation=1)
    assert (before.role, before.phase) == (Role.SUPERSEDED, Phase.STOPPING)
    assert (before.stop_cause, before.detail) == (Cause.WEDGED, "it fell silent")
    assert before.crashes == (NOW,)
    now = parts.shown()
    assert (now.generation, now.phase, now.holds) == (2, Phase.QUEUED, 1)
    assert request_ids(parts) == [7]


def test_where_nobody_wants_the_model_a_superseded_server_goes_alone() -> None:
    parts = Parts()
    row = parts.there()
    parts.supervisor.supersede(row.server, "it fell silent", NOW)
    assert parts.server() is None
    assert len(parts.state.table) == 1


def test_a_model_has_two_processes_at_most() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING, role=Role.SUPERSEDED)
    row = parts.there(generation=2)
    parts.holds(7)
    parts.supervisor.supersede(row.server, "it fell silent", NOW)
    assert (row.server.role, row.server.phase) == (Role.CURRENT, Phase.STOPPING)
    assert row.server.stop_cause is Cause.WEDGED
    assert len(parts.state.table) == 2


def test_a_successor_that_starts_yet_does_not_keep_a_server_from_being_superseded() -> None:
    parts = Parts()
    row = parts.there()
    parts.there(phase=Phase.STARTING, generation=2, role=Role.SUCCESSOR)
    parts.supervisor.supersede(row.server, "it fell silent", NOW)
    assert row.server.role is Role.SUPERSEDED


@pytest.mark.parametrize(("is_held", "cause"), [(False, Cause.EVICTED), (True, Cause.WEDGED)])
def test_what_serves_no_longer_during_its_eviction_is_evicted_unless_it_is_held(
    is_held: bool, cause: Cause
) -> None:
    parts = Parts()
    row = parts.there()
    if is_held:
        parts.holds(7)
    parts.evicts(9, row)
    parts.supervisor.supersede(row.server, "it fell silent", NOW)
    assert (row.server.role, row.server.stop_cause) == (Role.CURRENT, cause)


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
