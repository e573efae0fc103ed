"""Servers that go on aside or drain: single moments, by values."""

import pytest

from pool_service.core import commands, events, lifecycle, succession
from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Command, Publish
from pool_service.core.errors import CrashLoop, ModelRejected, PoolError, RuntimeModelConflict
from pool_service.core.events import (
    EnsureRequested,
    EvictRequested,
    HoldRequested,
    ReloadRequested,
    ShutdownEscalated,
    TimeReached,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.recovery import Recovery
from pool_service.core.results import Every
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Phase, Role, Server, ServerId
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.types import Settings
from tests.core.acting import badly, drive
from tests.core.breaking import PatientLedger, Place, breakable
from tests.core.invariants import Ledger

DEFAULTS = Settings(runtime_model="", keep_alive=30.0, grace_period=0.0, drain_timeout=300.0)
LOST = events.ListenerLost(ServerId("a", 1))
UNUSED = events.ActivityReported(ServerId("a", 1), Activity(0))


def ready(kind: type[Ledger] = Ledger) -> Ledger:
    """A pool in which `a` is READY."""
    limits = Limits()
    ledger = kind(lambda: Machine(Catalogue(DEFAULTS), limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    assert shown(ledger, "a").phase is Phase.READY
    return ledger


def shown(ledger: Ledger, model: str) -> Server:
    server = ledger.machine.get(model)
    assert server is not None
    return server


def aside(ledger: Ledger) -> Server:
    """The one that `a` had first, which another has superseded."""
    server = ledger.machine.server(ServerId("a", 1))
    assert server is not None
    assert server.role is Role.SUPERSEDED
    return server


def looks(issued: list[Command]) -> int:
    return sum(isinstance(command, commands.CheckActivity) for command in issued)


def answer_look(ledger: Ledger) -> list[Command]:
    """The look under way finds nothing in flight."""
    ledger.done(next(c for c in ledger.outstanding if isinstance(c, commands.CheckActivity)))
    return ledger.handle(UNUSED)


@pytest.mark.parametrize("ending", [LOST, EvictRequested(3, "a", force=True)])
def test_a_look_that_began_before_the_drain_does_not_end_it(
    ending: events.ListenerLost | EvictRequested,
) -> None:
    ledger = ready()
    assert looks(ledger.handle(EvictRequested(2, Every.ALL))) == 1
    assert looks(ledger.handle(ending)) == 0, "one look at a time"
    again = answer_look(ledger)
    assert not [c for c in again if isinstance(c, commands.SendSignal)], "it could not tell"
    assert looks(again) == 1
    assert [c for c in answer_look(ledger) if isinstance(c, commands.SendSignal)]


def test_what_goes_on_aside_is_not_looked_at_twice_at_a_time() -> None:
    ledger = ready()
    ledger.now = 30.0
    asked = [c for _ in range(2) for c in ledger.handle(TimeReached())]
    assert looks(asked) == 1
    assert looks(ledger.handle(LOST)) == 0
    assert looks(answer_look(ledger)) == 1
    assert aside(ledger).phase is Phase.STOPPING


def test_the_time_that_a_drain_gets_back_after_a_stall_is_recorded() -> None:
    ledger = ready()
    ledger.handle(LOST)
    before = aside(ledger).drain_by
    assert before is not None
    ledger.now = 3600.0
    told = ledger.handle(TimeReached(away=3600.0))
    recorded = [c.server.drain_by for c in told if isinstance(c, Publish)]
    assert before + 3600.0 in recorded


def test_who_holds_what_loses_its_listener_during_an_eviction_gets_the_next() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, Every.ALL))
    ledger.handle(HoldRequested(3, "a"))
    ledger.handle(LOST)
    drive(ledger)
    server = shown(ledger, "a")
    assert (server.phase, server.generation, server.holds) == (Phase.READY, 2, 1)
    assert not ledger.evicting


@pytest.mark.parametrize("haste", [False, True])
@pytest.mark.parametrize(
    "place",
    [
        (lifecycle, "stopping"),
        (succession, "superseded"),
        (lifecycle, "signalled"),
        (Stopper, "signal"),
        (Supervisor, "stop"),
    ],
    ids=lambda place: place[1] if isinstance(place, tuple) else None,
)
def test_what_was_told_to_end_is_not_handed_out_whatever_breaks_then(
    place: Place, haste: bool
) -> None:
    with breakable() as fault:
        for at in (1, 2):
            for late in (False, True):
                ledger = ready(PatientLedger)
                if haste:
                    ledger.handle(ShutdownEscalated())
                fault.arm(place, at, late=late)
                told = ledger.handle(LOST)
                fault.disarm()
                if any(isinstance(c, commands.SendSignal) for c in told):
                    given = ledger.machine.get("a")
                    assert given is None or given.phase is not Phase.READY
                drive(ledger)


def test_a_process_whose_adoption_broke_twice_is_watched_until_it_has_ended() -> None:
    with breakable() as fault:
        ledger = ready(PatientLedger)
        ledger.restart(len(ledger.journal))
        adopt = next(c for c in ledger.outstanding if isinstance(c, commands.Adopt))
        ledger.find_process(adopt.server)
        ledger.done(adopt)
        fault.arm((Recovery, "_is_answered"), 1, late=True)
        ledger.handle(badly(adopt))
        fault.disarm()
    assert [c for c in ledger.outstanding if isinstance(c, commands.AwaitExit)]
    drive(ledger)
    assert ledger.processes == {}


def test_an_eviction_is_answered_whatever_breaks_as_its_server_is_gone() -> None:
    with breakable() as fault:
        ledger = ready(PatientLedger)
        fault.arm((lifecycle, "died"), 1, late=True)
        ledger.handle(EvictRequested(2, "a", force=True))
        drive(ledger)
        assert fault.struck == 1
    assert 2 in ledger.answers


def test_nobody_is_given_another_runtime_model_than_the_one_named() -> None:
    """Not even one who waits while its server is proven anew and a reload changes the model."""
    limits = Limits()
    catalogue = Catalogue(DEFAULTS, {"a": Settings(runtime_model="one")})
    ledger = Ledger(lambda: Machine(catalogue, limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    ledger.die(next(iter(ledger.processes.values())))
    ledger.restart(len(ledger.journal))
    ledger.handle(EnsureRequested(2, "a"))
    ledger.handle(ReloadRequested(3, Catalogue(DEFAULTS), limits))
    ledger.handle(EnsureRequested(4, "a", "one"))
    drive(ledger)
    assert isinstance(ledger.answers[4].result, RuntimeModelConflict)


def test_a_broken_appraisal_fails_the_model_that_waits_and_not_its_predecessor() -> None:
    with breakable() as fault:
        ledger = ready(PatientLedger)
        ledger.handle(LOST)
        ledger.handle(EnsureRequested(2, "a"))
        assert shown(ledger, "a").phase is Phase.QUEUED
        fault.arm((Scheduler, "estimate_failed"), 1, late=False)
        ledger.handle(events.EstimateFailed(ServerId("a", 2), ModelRejected("no", model="a")))
        fault.disarm()
        assert ledger.machine.get("a") is None
        assert aside(ledger).phase is Phase.STOPPING
        assert isinstance(aside(ledger).failure, PoolError)
    drive(ledger)
    assert shown(ledger, "a").phase is Phase.FAILED


def test_what_lost_its_listener_is_repaired_as_what_was_named_while_it_drains() -> None:
    limits = Limits()
    catalogue = Catalogue(DEFAULTS, {"a": Settings(runtime_model="its own")})
    ledger = Ledger(lambda: Machine(catalogue, limits), limits)
    ledger.handle(EnsureRequested(1, "a", "named"))
    drive(ledger)
    ledger.handle(LOST)
    ledger.handle(EnsureRequested(2, "a"))
    assert aside(ledger).phase is Phase.STOPPING
    assert shown(ledger, "a").settings.runtime_model == "named"


@pytest.mark.parametrize("target", ["a", Every.ALL])
def test_an_eviction_forgets_a_crash_loop_of_what_still_drains(target: str | Every) -> None:
    limits = Limits(crash_limit=1)
    ledger = Ledger(lambda: Machine(Catalogue(DEFAULTS), limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    ledger.handle(LOST)
    ledger.handle(EnsureRequested(2, "a"))
    assert isinstance(ledger.answers[2].result, CrashLoop)
    ledger.handle(EvictRequested(3, target))
    ledger.handle(EnsureRequested(4, "a"))
    assert aside(ledger).phase is Phase.STOPPING
    next_one = shown(ledger, "a")
    assert (next_one.phase, next_one.crashes) == (Phase.QUEUED, ())
    drive(ledger)
    assert shown(ledger, "a").phase is Phase.READY
