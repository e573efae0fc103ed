"""A transition that raises costs its own model alone."""

from dataclasses import replace

import pytest

from pool_service.core import commands, events
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ModelUnknown
from pool_service.core.events import (
    EnsureRequested,
    EvictRequested,
    HoldRequested,
    ReloadRequested,
    ShutdownRequested,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.state import PoolState
from pool_service.core.types import FOREVER, Settings
from tests.core.acting import drive, drive_on, look, report, well
from tests.core.breaking import PLACES, PatientLedger, Place, breakable

DEFAULTS = Settings(runtime_model="", keep_alive=30.0, grace_period=0.0, start_timeout=60.0)
LIMITS = Limits(memory_budget=12.0, probe_interval=15.0)


def pool(**models: Settings) -> PatientLedger:
    return PatientLedger(lambda: Machine(Catalogue(DEFAULTS, models), LIMITS), LIMITS)


def told(ledger: PatientLedger, request_id: int) -> object:
    return ledger.answers[request_id].result


def _busy_day(ledger: PatientLedger) -> None:
    """Starts, holds, a crash, a reload, idle ends, an eviction, a restart of the service."""
    _come_and_go(ledger, 0)
    ledger.restart(len(ledger.journal))
    drive(ledger)
    _come_and_go(ledger, 10)


def _come_and_go(ledger: PatientLedger, request_ids: int) -> None:
    ledger.handle(EnsureRequested(request_ids + 1, "a"))
    drive(ledger)
    ledger.handle(HoldRequested(request_ids + 2, "b"))
    drive(ledger)
    ledger.handle(EnsureRequested(request_ids + 3, "d", download=True))
    ledger.handle(EnsureRequested(request_ids + 4, "c"))
    drive(ledger)
    _crash(ledger, "b")
    drive(ledger)
    ledger.reach_time(16.0)
    drive(ledger)
    changed = Catalogue(replace(DEFAULTS, keep_alive=20.0, config_hash=f"other {request_ids}"))
    ledger.handle(ReloadRequested(request_ids + 5, changed, LIMITS))
    drive(ledger)
    ledger.handle(EvictRequested(request_ids + 6, "b", force=True))
    drive(ledger)
    ledger.reach_time(40.0)
    drive(ledger)
    ledger.handle(EnsureRequested(request_ids + 7, "a"))
    drive(ledger)


def _crash(ledger: PatientLedger, model: str) -> None:
    for command in list(ledger.outstanding):
        if isinstance(command, commands.AwaitExit) and command.server_id.model == model:
            ledger.done(command)
            ledger.handle(events.Exited(command.server_id, report()))


@pytest.mark.parametrize("place", PLACES, ids=[f"{p[0].__name__}.{p[1]}" for p in PLACES])
def test_nobody_waits_for_ever_whatever_breaks(place: Place) -> None:
    for at, late in ((1, False), (2, True), (5, False)):
        with breakable() as fault:
            ledger = pool()
            fault.arm(place, at, late=late)
            _busy_day(ledger)
            fault.disarm()
            drive_on(ledger)
            ledger.handle(ShutdownRequested(99))
            drive_on(ledger)
        assert not ledger.waiting
        assert not ledger.evicting
        assert ledger.servers == []
        assert ledger.processes == {}
        assert ledger.machine.next_deadline() == FOREVER


def test_a_request_that_was_answered_is_not_answered_again_whatever_broke_after_it() -> None:
    with breakable() as fault:
        ledger = pool()
        ledger.handle(EnsureRequested(1, "a"))
        for kind in (commands.EstimateMemory, commands.Prepare, commands.Spawn):
            command = next(one for one in ledger.outstanding if isinstance(one, kind))
            ledger.done(command)
            event = well(ledger, command)
            assert event is not None
            ledger.handle(event)
            if ledger.sampling:
                look(ledger)
        fault.arm((PoolState, "answer"), 1, late=True)
        ledger.handle(ReloadRequested(2, Catalogue(DEFAULTS, only_listed=True), LIMITS))
        assert isinstance(told(ledger, 1), ModelUnknown)
        ledger.handle(EvictRequested(3, "a", force=True))
        drive(ledger)
        assert 3 in ledger.answers
