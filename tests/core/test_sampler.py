"""Claims about the looks at the memory: which one counts, and what all may cost; by values."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pool_service.core import commands
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Command, Publish, RecordUsage, SampleMemory
from pool_service.core.events import (
    EnsureRequested,
    EvictRequested,
    HoldRequested,
    MemorySampled,
    TimeReached,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.ready_estimate import NOTICED_S
from pool_service.core.sampler import (
    CALM_COST_SHARE,
    CALM_S,
    COST_SHARE,
    FAST_PAUSE_S,
    FRESH_S,
    PROGRESS_STEP,
    SAMPLED_AT_ONCE,
)
from pool_service.core.server import Phase
from pool_service.core.types import FOREVER, EstimateSource, MemorySample, Settings
from tests.core.acting import drive, look, well
from tests.core.invariants import Ledger
from tests.core.parts import DEFAULTS, NOW, Parts, of_kind, sample

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


# --- the part alone -----------------------------------------------------------------------


def taken(parts: Parts, seen: MemorySample | None = None, now: float = NOW) -> list[Command]:
    """Let a sample begin and end at once; return what follows from it."""
    parts.sampler.take(now)
    parts.taken()
    parts.sampler.on_memory_sampled(MemorySampled(seen or sample()), now)
    return parts.taken()


def test_a_sample_is_of_what_starts_of_what_is_not_known_yet_and_of_others_in_turn() -> None:
    parts = Parts()
    for number in range(SAMPLED_AT_ONCE + 1):
        parts.there(f"m{number:02}")
    new = parts.there("new")
    starting = parts.there("starting", Phase.STARTING)
    parts.state.unmeasured.add(new.server.id)
    parts.sampler.take(NOW)
    (command,) = of_kind(parts.taken(), SampleMemory)
    names = [server.model for server in command.servers]
    assert names[:2] == [starting.server.model, new.server.model]
    assert names[2:] == [f"m{number:02}" for number in range(SAMPLED_AT_ONCE)]
    parts.sampler.take(NOW)
    assert parts.taken() == [], "one at a time"


def test_where_nothing_can_be_seen_nobody_waits_for_it() -> None:
    parts = Parts()
    parts.state.unmeasured.add(parts.there().server.id)
    parts.sampler.take(NOW)
    assert parts.sampler.on_memory_sampled(MemorySampled(None), NOW) == []
    assert parts.state.unmeasured == set()
    assert parts.state.capacity_changed
    parts.taken()
    assert parts.sampler.ensure_fresh(NOW)


@pytest.mark.parametrize(("pressured", "critical"), [(True, False), (False, True)])
def test_a_word_that_memory_is_short_counts_until_a_while_after_the_last(
    pressured: bool, critical: bool
) -> None:
    parts = Parts()
    taken(parts, replace(sample(), pressured=pressured, critical=critical))
    for later, is_short in ((CALM_S - 0.1, True), (CALM_S, False)):
        taken(parts, now=NOW + later)
        assert parts.sampler.is_pressed is (pressured and is_short)
        assert parts.sampler.is_critical is (critical and is_short)


def test_a_sample_is_fresh_for_a_second_if_it_saw_all_and_began_after_the_last_end() -> None:
    parts = Parts()
    row = parts.there()
    taken(parts)
    assert parts.sampler.ensure_fresh(NOW + FRESH_S)
    assert parts.taken() == []
    parts.state.unmeasured.add(row.server.id)
    assert not parts.sampler.ensure_fresh(NOW)
    assert looks(parts.taken()) == 1, "the next one is taken"
    taken(parts)
    parts.state.unmeasured.clear()
    parts.state.gone_at = NOW + 0.1
    assert not parts.sampler.ensure_fresh(NOW + 0.2)
    parts = Parts()
    taken(parts)
    assert not parts.sampler.ensure_fresh(NOW + FRESH_S + 0.1)


@pytest.mark.parametrize(
    ("phase", "took", "needed"),
    [
        (Phase.READY, 60, [60]),
        (Phase.READY, 50, []),
        (Phase.READY, 90, [80]),
        (Phase.STARTING, 60, []),
    ],
)
def test_a_peak_above_the_estimate_is_recorded_up_to_the_memory_limit(
    phase: Phase, took: int, needed: list[int]
) -> None:
    parts = Parts(defaults=replace(DEFAULTS, memory_limit=80))
    row = parts.there(phase=phase, expected=50, expected_by=EstimateSource.DECLARED)
    assert recorded(taken(parts, sample(footprints={"m": took}))) == needed
    assert row.server.peak == took


def test_a_server_whose_memory_cannot_be_told_stays_as_it_is() -> None:
    parts = Parts()
    server = parts.there().server
    assert taken(parts, sample(footprints={"n": 5})) == []
    assert parts.shown() is server


def test_a_sample_that_tells_nothing_leaves_what_is_known_of_a_start() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STARTING)
    taken(parts, sample(footprints={"m": 10**9}))
    for nothing in (sample(), None):
        parts.sampler.on_memory_sampled(MemorySampled(nothing), NOW + 1.0)
        assert row.stall_watch is not None
        assert row.stall_watch.last_footprint == 10**9


def test_the_progress_of_a_load_is_published_in_steps() -> None:
    parts = Parts()
    parts.there(phase=Phase.STARTING, expected=100)
    told = []
    for took in (4, 5, 9, 10, 30):
        issued = taken(parts, sample(footprints={"m": took}))
        told += [one.server.progress for one in of_kind(issued, Publish)]
    assert told == [0.05, 0.1, 0.3]
    assert parts.shown().footprint == 30


def told_of(parts: Parts, footprints: Callable[[float], float]) -> list[float | None]:
    """Return the expected times that are published of a start in a minute of samples."""
    told = []
    for step in range(120):
        parts.state.now = now = NOW + step / 2
        issued = taken(parts, sample(footprints={"m": int(footprints(now - NOW))}), now)
        told += [one.server.expected_ready_at for one in of_kind(issued, Publish)]
    return told


def test_when_a_start_will_be_ready_is_published_seldom_however_often_it_is_estimated() -> None:
    parts = Parts()
    parts.there(
        phase=Phase.STARTING,
        spawned_at=NOW,
        expected=10**9,
        expected_by=EstimateSource.WEIGHTS,
        usual_load_s=60.0,
        expected_ready_at=NOW + 60.0,
    )
    told = told_of(parts, lambda passed: 10**9 * passed / 60 + 5_000_000 * (passed % 1))
    assert told == [pytest.approx(NOW + 60.0, abs=NOTICED_S)] * len(told)
    assert len(told) <= 1 / PROGRESS_STEP, "published with the steps of its progress alone"


def test_a_start_that_is_slower_than_the_ones_before_is_expected_later_and_later() -> None:
    parts = Parts()
    parts.there(
        phase=Phase.STARTING,
        spawned_at=NOW,
        expected=10**9,
        expected_by=EstimateSource.WEIGHTS,
        usual_load_s=20.0,
        expected_ready_at=NOW + 20.0,
    )
    told = told_of(parts, lambda passed: 10**9 * passed / 60)
    assert told[-1] == pytest.approx(NOW + 60.0, abs=NOTICED_S)
    assert len(told) <= 1 / PROGRESS_STEP + 8


def test_a_guess_of_its_memory_tells_nothing_of_when_a_start_is_ready() -> None:
    parts = Parts()
    parts.there(
        phase=Phase.STARTING,
        spawned_at=NOW,
        expected=10**9,
        expected_by=EstimateSource.UNKNOWN,
    )
    assert set(told_of(parts, lambda passed: 10**9 * passed / 60)) == {None}


@pytest.mark.parametrize(
    "took",
    [
        lambda passed: 10**9 * passed / 20,
        lambda passed: 10**9 * min(passed / 20, 0.9),
    ],
    ids=["more than was expected", "less than was expected"],
)
@pytest.mark.parametrize("usual_load_s", [20.0, None])
def test_while_a_start_with_all_its_memory_still_computes_no_other_time_is_told(
    took: Callable[[float], float], usual_load_s: float | None
) -> None:
    parts = Parts()
    parts.there(
        phase=Phase.STARTING,
        spawned_at=NOW,
        expected=10**9,
        expected_by=EstimateSource.WEIGHTS,
        usual_load_s=usual_load_s,
        expected_ready_at=NOW + 20.0 if usual_load_s else None,
    )
    told = told_of(parts, took)
    assert told[-1] == pytest.approx(NOW + 20.0, abs=NOTICED_S)
    assert len(told) <= 1 / PROGRESS_STEP + 2


def test_samples_are_rare_where_nothing_runs_and_frequent_where_something_starts() -> None:
    parts = Parts(sample_interval=10.0)
    taken(parts)
    assert parts.sampler.next_at() == FOREVER
    parts.there("ready")
    assert parts.sampler.next_at() == NOW + 10.0
    parts.there("starting", Phase.STARTING)
    assert parts.sampler.next_at() == NOW + FAST_PAUSE_S


def test_who_waits_for_its_turn_hastens_the_samples_once_its_need_is_known() -> None:
    parts = Parts()
    taken(parts)
    row = parts.queued()
    row.is_estimating = True
    assert parts.sampler.next_at() == FOREVER
    row.is_estimating = False
    assert parts.sampler.next_at() == NOW + FAST_PAUSE_S


def test_where_servers_are_many_the_samples_are_as_much_more_frequent() -> None:
    parts = Parts(sample_interval=10.0)
    taken(parts)
    for number in range(2 * SAMPLED_AT_ONCE):
        parts.there(f"m{number}")
    assert parts.sampler.next_at() == NOW + 5.0


def test_after_a_sample_that_broke_the_next_one_waits() -> None:
    parts = Parts()
    parts.there(phase=Phase.STARTING)
    parts.sampler.take(NOW)
    assert parts.sampler.next_at() == FOREVER
    parts.sampler.postpone(NOW + 15.0)
    assert parts.sampler.next_at() == NOW + 15.0
    parts.taken()
    parts.sampler.take_if_due(NOW + 14.9)
    assert parts.taken() == []
    parts.sampler.take_if_due(NOW + 15.0)
    assert looks(parts.taken()) == 1
