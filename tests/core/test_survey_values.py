"""Claims about the looks at the memory: which one counts, and what all may cost; by values."""

import pytest

from pool_service.core import commands
from pool_service.core import lifecycle as life
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Command, RecordUsage, SampleMemory
from pool_service.core.events import (
    EnsureRequested,
    EvictRequested,
    HoldRequested,
    MemorySampled,
    TimeReached,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.sampler import CALM_COST_SHARE, COST_SHARE, FAST_PAUSE_S, FRESH_S
from pool_service.core.server import Phase
from pool_service.core.types import FOREVER, EstimateSource, MemorySample, Settings
from tests.core.acting import drive, look, well
from tests.core.invariants import Ledger

LIMITS = Limits(memory_budget=6, sample_interval=10.0, queue_timeout=1e6, probe_interval=FOREVER)
"""There is room for `a` or for `b`."""


def ready() -> Ledger:
    """A pool in which `a` is READY."""
    defaults = Settings("", keep_alive=1e6, grace_period=0.0)
    ledger = Ledger(lambda: Machine(Catalogue(defaults), LIMITS), LIMITS)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    return ledger


def carry_out(ledger: Ledger, kind: type[commands.ServerCommand]) -> list[Command]:
    """Return what follows when one command of this kind has ended well."""
    command = next(c for c in ledger.outstanding if isinstance(c, kind))
    ledger.done(command)
    event = well(ledger, command)
    return ledger.handle(event) if event is not None else []


def looks(issued: list[Command]) -> int:
    return sum(isinstance(command, SampleMemory) for command in issued)


def started(issued: list[Command]) -> list[str]:
    return [command.server_id.model for command in issued if isinstance(command, commands.Prepare)]


# --- which one counts ---------------------------------------------------------------------


def leaving(at: float) -> Ledger:
    """A pool in which `a` was told to end for `b` by a look at that time."""
    ledger = ready()
    ledger.now = at
    ledger.handle(EnsureRequested(2, "b"))
    carry_out(ledger, commands.EstimateMemory)
    look(ledger)
    carry_out(ledger, commands.CheckActivity)
    carry_out(ledger, commands.CheckActivity)
    return ledger


def go(ledger: Ledger, at: float) -> list[Command]:
    """Return what follows when `a` is gone."""
    ledger.now = at
    carry_out(ledger, commands.AwaitExit)
    return carry_out(ledger, commands.CleanUp)


def test_a_look_from_before_an_eviction_is_too_old_to_start_by_however_young_it_is() -> None:
    ledger = leaving(at=50.0)
    issued = go(ledger, at=50.0 + FRESH_S / 4)
    assert (looks(issued), started(issued)) == (1, [])
    look(ledger)
    assert [c.server_id.model for c in ledger.outstanding if isinstance(c, commands.Prepare)] == [
        "b"
    ]


def test_a_look_that_began_before_an_eviction_and_ended_after_it_is_too_old_as_well() -> None:
    ledger = leaving(at=50.0)
    ledger.reach_time(FAST_PAUSE_S)
    assert ledger.sampling
    assert started(go(ledger, at=51.0)) == []
    ledger.now = 51.1
    issued = ledger.handle(MemorySampled(MemorySample(total=100, available=100)))
    assert (looks(issued), started(issued)) == (1, [])


# --- what a sample tells of a need --------------------------------------------------------


def ready_while_sampled() -> Ledger:
    """A pool in which `a` became READY after a memory sample began that saw it at its exec."""
    defaults = Settings("", keep_alive=1e6, grace_period=0.0)
    ledger = Ledger(lambda: Machine(Catalogue(defaults), LIMITS), LIMITS)
    ledger.handle(EnsureRequested(1, "a"))
    for kind in (commands.EstimateMemory, commands.Prepare, commands.Spawn):
        if ledger.sampling:
            look(ledger)
        carry_out(ledger, kind)
    while not ledger.sampling:
        ledger.reach_time(FAST_PAUSE_S)
    ledger.now += 0.1
    carry_out(ledger, commands.AwaitReady)
    return ledger


def sampled(ledger: Ledger, footprint: int) -> list[Command]:
    """Return what follows when the sample ends in which every process takes so much."""
    footprints = dict.fromkeys(ledger.processes.values(), footprint)
    return ledger.handle(MemorySampled(MemorySample(100, 100, footprints=footprints, cost=0.001)))


def recorded(issued: list[Command]) -> list[int]:
    return [command.needed for command in issued if isinstance(command, RecordUsage)]


def test_a_sample_that_began_before_a_server_was_ready_does_not_tell_what_it_needs() -> None:
    ledger = ready_while_sampled()
    sampled(ledger, 1)
    (server,) = ledger.servers
    assert (server.phase, server.footprint) == (Phase.READY, 1)
    assert (server.expected, server.expected_by) == (3, EstimateSource.WEIGHTS)
    ledger.reach_time(FAST_PAUSE_S)
    assert ledger.sampling, "nobody looks at what it takes now"
    sampled(ledger, 4)
    (server,) = ledger.servers
    assert (server.expected, server.expected_by) == (4, EstimateSource.OBSERVED)


@pytest.mark.parametrize("footprint", [None, 4])
def test_what_is_learnt_of_a_server_that_ends_is_what_it_took_while_it_was_ready(
    footprint: int | None,
) -> None:
    ledger = ready_while_sampled()
    sampled(ledger, 1)
    if footprint is not None:
        ledger.reach_time(FAST_PAUSE_S)
        sampled(ledger, footprint)
    issued = ledger.handle(EvictRequested(2, "a", force=True))
    for kind in (commands.AwaitExit, commands.CleanUp):
        issued += carry_out(ledger, kind)
    assert not ledger.servers
    assert recorded(issued) == ([] if footprint is None else [footprint])


def test_a_sample_that_tells_nothing_new_makes_no_new_server() -> None:
    (server,) = ready().servers
    once = life.measured(server, 4, sampled_at=1.0)
    assert (once.peak, once.sampled_ready) == (4, True)
    assert life.measured(once, 4, sampled_at=2.0) is once


# --- what all may cost --------------------------------------------------------------------


def look_dearly(ledger: Ledger, cost: float) -> list[Command]:
    """Return what follows when a look has ended that took so much of a processor."""
    footprints = dict.fromkeys(ledger.processes.values(), 3)
    return ledger.handle(MemorySampled(MemorySample(100, 100, footprints=footprints, cost=cost)))


def next_look(ledger: Ledger) -> float:
    """Return after how many seconds the memory is looked at again, if nothing happens."""
    began = ledger.now
    while not ledger.sampling:
        ledger.now = ledger.machine.next_deadline()
        assert ledger.now < FOREVER
        ledger.handle(TimeReached())
    return ledger.now - began


@pytest.mark.parametrize("cost", [0.1, 3.0])
def test_however_dear_a_look_is_all_take_little_of_a_processor_while_nothing_starts(
    cost: float,
) -> None:
    ledger = ready()
    next_look(ledger)
    look_dearly(ledger, cost)
    assert next_look(ledger) == pytest.approx(cost / CALM_COST_SHARE)


@pytest.mark.parametrize("cost", [0.1, 3.0])
def test_however_dear_a_look_is_they_take_little_of_a_processor_while_somebody_waits(
    cost: float,
) -> None:
    ledger = ready()
    ledger.now = 50.0
    ledger.handle(HoldRequested(2, "a"))
    ledger.handle(EnsureRequested(3, "b"))
    carry_out(ledger, commands.EstimateMemory)
    look_dearly(ledger, cost)
    assert next_look(ledger) == pytest.approx(cost / COST_SHARE)


def test_looks_that_cost_little_are_made_as_often_as_is_configured() -> None:
    ledger = ready()
    next_look(ledger)
    look_dearly(ledger, 0.001)
    assert next_look(ledger) == pytest.approx(LIMITS.sample_interval)
