"""What an earlier service left behind becomes the state of this one."""

from dataclasses import replace

import pytest

from pool_service.core import commands, events
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Command, RecoveryEnded, SampleMemory
from pool_service.core.errors import PoolError
from pool_service.core.events import EnsureRequested, RecoveryBegan, TimeReached
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.server import (
    Cause,
    LastRun,
    Phase,
    RecoveredState,
    Role,
    Server,
    ServerId,
    StopSignal,
)
from pool_service.core.types import FOREVER, Identity, Settings, SpawnedProcess
from tests.core.acting import plan, report
from tests.core.parts import (
    DEFAULTS,
    M1,
    M2,
    NOW,
    Field,
    Parts,
    answers,
    ended,
    identity,
    kinds,
    made,
    of_kind,
)

IDENTITY = Identity(100, 1, "boot")
READY = Server(
    "m",
    Settings(runtime_model="m"),
    Phase.READY,
    generation=3,
    created_at=0.0,
    last_used_at=0.0,
    keep_alive=300.0,
    plan=plan("m", 3),
    identity=IDENTITY,
    log_path="/log",
    endpoint="http://127.0.0.1:1",
    spawned_at=0.0,
    ready_at=1.0,
)
FOUND = events.Adopted(ServerId("m", 3), SpawnedProcess(IDENTITY, "/log"))


def recovering(*servers: Server) -> Machine:
    machine = Machine(Catalogue(Settings("", start_timeout=60.0)), Limits())
    issued = machine.handle(RecoveryBegan(RecoveredState(servers)), 100.0)
    assert [c for c in issued if isinstance(c, commands.Adopt)]
    return machine


def shown(machine: Machine) -> Server:
    server = machine.get("m")
    assert server is not None
    return server


def test_one_that_dies_by_itself_before_it_is_proven_again_did_not_die_of_its_start() -> None:
    machine = recovering(READY)
    machine.handle(FOUND, 100.0)
    machine.handle(EnsureRequested(1, "m"), 101.0)
    told = machine.handle(events.Exited(ServerId("m", 3), report(code=1)), 102.0)
    told += machine.handle(events.CleanedUp(ServerId("m", 3)), 102.0)
    assert not [c for c in told if hasattr(c, "ticket")]
    assert shown(machine).phase is Phase.QUEUED


def test_an_adoption_that_is_told_twice_counts_once() -> None:
    machine = recovering(READY)
    machine.handle(FOUND, 100.0)
    machine.handle(events.BecameReady(ServerId("m", 3), "http://127.0.0.1:1"), 100.0)
    assert machine.handle(FOUND, 101.0) == []
    assert shown(machine).phase is Phase.READY


def test_the_end_of_a_recovery_is_told_once_and_only_when_all_is_known() -> None:
    machine = recovering(READY, replace(READY, model="n", phase=Phase.STARTING, ready_at=None))
    assert RecoveryEnded() not in machine.handle(FOUND, 100.0)
    found = events.Adopted(ServerId("n", 3), SpawnedProcess(IDENTITY, "/log"))
    assert RecoveryEnded() not in machine.handle(found, 100.0)
    ready = machine.handle(events.BecameReady(ServerId("m", 3), "http://127.0.0.1:1"), 100.0)
    assert RecoveryEnded() in ready
    ready = machine.handle(events.BecameReady(ServerId("n", 3), "http://127.0.0.1:1"), 100.0)
    assert RecoveryEnded() not in ready


def test_nothing_is_due_before_it_is_known_how_a_server_is() -> None:
    machine = recovering(replace(READY, phase=Phase.STARTING, ready_at=None, step_deadline=50.0))
    told = machine.handle(TimeReached(), 99.0)
    assert [c for c in told if not isinstance(c, SampleMemory)] == []
    machine.handle(FOUND, 100.0)
    assert machine.handle(TimeReached(), 102.9) == []
    assert machine.handle(TimeReached(), 103.0) != []


@pytest.mark.parametrize(
    "left",
    [
        replace(READY, phase=Phase.STARTING, ready_at=None),
        replace(READY, phase=Phase.SPAWNING, ready_at=None, spawned_at=None, identity=None),
    ],
)
def test_the_time_of_a_load_that_an_earlier_service_began_is_not_learnt(left: Server) -> None:
    machine = recovering(left)
    machine.handle(FOUND, 100.0)
    ready = events.BecameReady(ServerId("m", 3), "http://127.0.0.1:1")
    issued = machine.handle(ready, 130.0)
    assert shown(machine).phase is Phase.READY
    assert of_kind(issued, commands.RecordLoad) == []


# --- the part alone -----------------------------------------------------------------------


def taken_back(parts: Parts, *servers: Server, **more: Field) -> list[Command]:
    """Let the service begin with what an earlier one left."""
    parts.recovery.on_recovery_began(RecoveryBegan(RecoveredState(servers, **more)), NOW)
    return parts.taken()


def adopted(parts: Parts, server_id: ServerId = M1, *, is_there: bool = True) -> list[Command]:
    """Let the process of a server be found, or not."""
    row = parts.state.table.find(server_id)
    assert row is not None
    process = SpawnedProcess(identity(server_id), "/log") if is_there else None
    parts.recovery.on_adopted(row, events.Adopted(server_id, process), NOW)
    return parts.taken()


def test_what_was_ready_is_given_to_nobody_before_it_has_proven_that() -> None:
    parts = Parts()
    issued = taken_back(parts, made())
    assert kinds(issued) == ["Adopt"]
    assert (parts.shown().phase, parts.shown().endpoint) == (Phase.STARTING, "")
    issued = adopted(parts)
    assert kinds(issued) == ["AwaitExit", "AwaitReady"]
    (again,) = of_kind(issued, commands.AwaitReady)
    assert again.again


@pytest.mark.parametrize(
    ("limit", "changes", "deadline"),
    [
        (120.0, {"spawned_at": NOW - 5.0}, NOW + 115.0),
        (120.0, {"spawned_at": NOW - 125.0}, NOW + DEFAULTS.probe_timeout),
        (120.0, {"spawned_at": NOW - 125.0, "suspended_s": 60.0}, NOW + 55.0),
        # The earlier service knew another limit.
        (120.0, {"spawned_at": NOW - 5.0, "step_deadline": FOREVER}, NOW + 115.0),
        (FOREVER, {"spawned_at": NOW - 5.0, "step_deadline": NOW + 1.0}, FOREVER),
    ],
)
def test_what_was_starting_has_what_is_left_of_its_limit_and_one_look(
    limit: float, changes: dict[str, Field], deadline: float
) -> None:
    parts = Parts(defaults=replace(DEFAULTS, start_timeout=limit))
    taken_back(parts, made(phase=Phase.STARTING, **changes))
    issued = adopted(parts)
    assert parts.shown().step_deadline == deadline
    assert not of_kind(issued, commands.AwaitReady)[0].again


def test_a_stop_goes_on_where_it_was() -> None:
    for stop, issued in ((None, "CheckActivity"), (StopSignal.TERMINATE, "SendSignal")):
        parts = Parts()
        taken_back(parts, made(phase=Phase.STOPPING, stop_signal=stop))
        assert kinds(adopted(parts)) == ["AwaitExit", issued]
        assert parts.shown().stop_cause is Cause.EVICTED


def test_what_was_being_cleaned_up_is_cleaned_up_without_waiting() -> None:
    parts = Parts()
    taken_back(parts, made(phase=Phase.CLEANING_UP))
    (command,) = of_kind(adopted(parts), commands.CleanUp)
    assert (command.endpoint, command.drain_time) == ("http://m", 0.0)


def test_a_process_that_was_spawned_and_not_recorded_goes_on_as_any_start() -> None:
    parts = Parts()
    taken_back(parts, made(phase=Phase.SPAWNING, plan=plan("m", 1)))
    assert kinds(adopted(parts)) == ["AwaitExit", "AwaitReady"]
    assert parts.shown().identity == identity(M1)


def test_what_never_had_a_process_is_gone_unless_somebody_waits_already() -> None:
    for is_wanted in (False, True):
        parts = Parts()
        taken_back(parts, made(phase=Phase.SPAWNING))
        if is_wanted:
            parts.waits(1)
        adopted(parts, is_there=False)
        after = parts.server()
        assert (after.id if after else None) == (M2 if is_wanted else None)


@pytest.mark.parametrize(
    ("server", "after"),
    [
        (made(phase=Phase.FAILED), (Phase.FAILED, 1)),
        (
            made(phase=Phase.BACKING_OFF, generation=2, last_exit=ended(made()).last_exit),
            (Phase.FAILED, 1),
        ),
        (made(phase=Phase.QUEUED, generation=2), None),
        (made(phase=Phase.PREPARING, generation=2), None),
    ],
)
def test_a_start_without_a_process_is_over_with_its_callers_and_a_failure_stays(
    server: Server, after: tuple[Phase, int] | None
) -> None:
    parts = Parts()
    issued = taken_back(parts, server)
    assert kinds(issued) == []
    now = parts.server()
    assert ((now.phase, now.generation) if now else None) == after
    if now is None:
        assert parts.state.known("m") is not None


def test_what_ran_beside_its_models_server_ends() -> None:
    parts = Parts()
    taken_back(parts, made(role=Role.SUPERSEDED), made(generation=2))
    before = parts.shown(generation=1)
    assert (before.phase, before.stop_cause) == (Phase.STOPPING, Cause.MEMORY_LIMIT)
    assert parts.shown(generation=2).phase is Phase.STARTING


@pytest.mark.parametrize(
    ("one", "other", "right"),
    [
        (
            made(phase=Phase.STARTING, role=Role.SUCCESSOR),
            made(),
            (Phase.STARTING, Role.CURRENT),
        ),
        (
            made(role=Role.SUPERSEDED),
            made(),
            (Phase.STARTING, Role.CURRENT),
        ),
        (
            made(phase=Phase.CLEANING_UP, role=Role.SUPERSEDED),
            made(phase=Phase.FAILED),
            (Phase.CLEANING_UP, Role.SUPERSEDED),
        ),
    ],
)
def test_of_two_records_of_one_server_the_one_counts_that_may_have_a_process_or_is_current(
    one: Server, other: Server, right: tuple[Phase, Role]
) -> None:
    for servers in ((one, other), (other, one)):
        parts = Parts()
        issued = taken_back(parts, *servers)
        assert len(of_kind(issued, commands.Adopt)) == 1
        server = parts.shown(generation=1)
        assert (server.phase, server.role) == right


def test_what_the_configuration_says_now_counts_for_what_is_taken_back() -> None:
    parts = Parts({"m": replace(DEFAULTS, runtime_model="m", config_hash="new")})
    taken_back(parts, made())
    assert parts.shown().outdated


def test_what_is_left_of_models_without_a_server_is_known_again() -> None:
    parts = Parts()
    past = LastRun("n", 4, None)
    taken_back(parts, pasts=(past,), namings={"n": "org/named"})
    assert parts.state.known("n") == past
    assert parts.state.namings.get("n") == "org/named"


def test_what_callers_named_is_forgotten_of_models_that_are_listed_after_the_restart() -> None:
    parts = Parts({"m": DEFAULTS}, aliases={"alias": "m"})
    taken_back(parts, namings=dict.fromkeys(("m", "n", "alias"), "org/named"))
    assert parts.state.namings.all() == {"n": "org/named"}


@pytest.mark.parametrize(
    "server",
    [
        made(),
        made(phase=Phase.FAILED),
        made(phase=Phase.STOPPING),
        made(role=Role.SUPERSEDED, phase=Phase.STOPPING),
        made(settings=replace(DEFAULTS, runtime_model="m", config_hash="old")),
    ],
    ids=["READY", "FAILED", "STOPPING", "beside", "outdated"],
)
@pytest.mark.parametrize("pinned", [True, False])
def test_what_callers_of_pin_said_counts_for_whatever_is_taken_back(
    server: Server, pinned: bool
) -> None:
    parts = Parts({"m": replace(DEFAULTS, runtime_model="m", pinned=not pinned)})
    taken_back(parts, server, pins={"m": pinned})
    assert parts.shown(generation=1).settings.pinned is pinned
    assert parts.state.settings_for("m").pinned is pinned


def test_what_the_configuration_pins_is_shown_as_pinned_where_it_has_failed_too() -> None:
    parts = Parts({"m": replace(DEFAULTS, runtime_model="m", pinned=True)})
    taken_back(parts, made(phase=Phase.FAILED))
    assert parts.shown().settings.pinned


def test_an_orphan_drains_under_no_models_name() -> None:
    parts = Parts()
    orphan = Identity(4711, 1, "boot")
    parts.recovery.on_orphans_found(events.OrphansFound((orphan,)), NOW)
    (row,) = parts.state.table
    assert (row.server.id, row.server.role) == (ServerId("", 4711), Role.ORPHAN)
    assert (row.server.phase, row.server.stop_cause) == (Phase.STOPPING, Cause.ORPHANED)
    assert kinds(parts.taken()) == ["AwaitExit", "CheckActivity"]
    assert parts.state.capacity_changed


@pytest.mark.parametrize(
    ("server", "issued"),
    [
        (made(), ["AwaitExit", "AwaitReady"]),
        (made(phase=Phase.STOPPING), ["AwaitExit", "CheckActivity"]),
    ],
)
def test_where_looking_for_a_process_broke_its_record_is_believed(
    server: Server, issued: list[str]
) -> None:
    parts = Parts()
    taken_back(parts, server)
    row = parts.state.table.find(M1)
    assert row is not None
    parts.recovery.adopt_as_recorded(row, PoolError("a bug"), NOW)
    assert kinds(parts.taken()) == issued
    parts.recovery.adopt_as_recorded(row, PoolError("a bug"), NOW)
    assert parts.taken() == []


def test_where_looking_broke_for_a_start_that_may_have_no_process_it_is_failed() -> None:
    parts = Parts()
    taken_back(parts, made(phase=Phase.SPAWNING))
    parts.waits(1)
    row = parts.state.table.find(M1)
    assert row is not None
    error = PoolError("a bug")
    parts.recovery.adopt_as_recorded(row, error, NOW)
    assert answers(parts.taken()) == {1: error}
    assert parts.shown().phase is Phase.FAILED


def test_of_two_records_of_one_server_the_one_that_may_have_a_process_is_taken_back() -> None:
    parts = Parts()
    issued = taken_back(parts, made(phase=Phase.FAILED), made())
    assert kinds(issued) == ["Adopt"]
    assert parts.shown().phase is Phase.STARTING


def test_where_looking_broke_for_what_was_to_stop_and_may_have_no_process_it_is_gone() -> None:
    parts = Parts()
    taken_back(parts, made(phase=Phase.STOPPING, identity=None, ready_at=None))
    row = parts.state.table.find(M1)
    assert row is not None
    parts.recovery.adopt_as_recorded(row, PoolError("a bug"), NOW)
    assert parts.server() is None
