"""Single moments of a recovery, which in the driver's time are too short to be met."""

from dataclasses import replace

from pool_service.core import commands, events
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import RecoveryEnded, SampleMemory
from pool_service.core.events import EnsureRequested, RecoveryBegan, TimeReached
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.server import Phase, RecoveredState, Server, ServerId
from pool_service.core.types import Identity, Settings, SpawnedProcess
from tests.core.acting import plan, report

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
    machine = Machine(Catalogue(), Limits())
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
