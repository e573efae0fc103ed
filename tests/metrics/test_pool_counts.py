"""What the pool publishes is counted: starts, exits, waits and stops, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pool_service.core.commands import Publish
from pool_service.core.errors import PoolError, PoolFull
from pool_service.core.server import Phase, StopSignal
from pool_service.core.types import Settings
from pool_service.metrics.pool_counts import PoolCounts
from pool_service.metrics.values import ModelLabels
from tests.pool.capacity import limits, sized
from tests.pool.holds import holding
from tests.pool.running import Running, now, running
from tests.world import NEVER, REJECTED, Script, outcomes

pytestmark = pytest.mark.looptime


@asynccontextmanager
async def counted(**more: object) -> AsyncIterator[tuple[Running, PoolCounts]]:
    """A pool and its counts; when it has ended nothing is remembered of any server."""
    counts = PoolCounts(ModelLabels(lambda _model: True), now)
    async with running(observers=[counts.observe], **more) as run:  # type: ignore[arg-type]
        yield run, counts
    assert counts.is_idle


async def test_a_start_is_counted_by_its_origin_with_its_time() -> None:
    async with counted() as (run, counts):
        run.world.script("cold", Script(prepare=0.5, spawn=0.5, load=3.0))
        run.world.script("warm", Script(load=0.2, from_standby=True))
        await outcomes(run.ensure("cold"), run.ensure("warm"))
        assert counts.starts.counts == {
            ("cold", "cold", "ready"): 1,
            ("warm", "standby", "ready"): 1,
        }
        assert counts.loads["cold"] == pytest.approx((1, 4.0))
        assert counts.loads["warm"] == pytest.approx((1, 0.2))
        assert counts.start_s["cold"].total == pytest.approx(4.0)
        assert counts.start_s["standby"].total == pytest.approx(0.2)
        assert counts.exits.counts == {}


async def test_looking_and_using_count_nothing() -> None:
    async with counted() as (run, counts):
        await run.pool.ensure("m")
        before = dict(counts.starts.counts), dict(counts.loads)
        for _ in range(3):
            await run.pool.ensure("m")
            run.pool.page(None, 10)
        assert (counts.starts.counts, counts.loads) == before


async def test_a_start_whose_process_dies_has_failed_and_so_has_one_without_a_process() -> None:
    async with counted() as (run, counts):
        run.world.script("dies", Script(load=NEVER, dies=1.0, report=REJECTED))
        run.world.script("none", Script(raises={"prepare": PoolError("no program")}))
        await outcomes(run.ensure("dies"), run.ensure("none"))
        assert counts.starts.counts == {
            ("dies", "cold", "failed"): 1,
            ("none", "cold", "failed"): 1,
        }
        assert counts.exits.counts == {("dies", "CRASHED"): 1}
        assert counts.loads == {}


async def test_a_start_that_takes_too_long_has_timed_out() -> None:
    async with counted(start_timeout=5.0) as (run, counts):
        run.world.script("m", Script(load=NEVER))
        await outcomes(run.ensure())
        await asyncio.sleep(0.001)
        assert counts.starts.counts == {("m", "cold", "timeout"): 1}
        assert counts.exits.counts == {("m", "START_TIMEOUT"): 1}


@pytest.mark.parametrize("script", [Script(load=NEVER), Script(prepare=NEVER), Script(spawn=9.0)])
async def test_a_start_that_is_evicted_was_stopped(script: Script) -> None:
    async with counted() as (run, counts):
        run.world.script("m", script)
        run.ask("m")
        await asyncio.sleep(1.0)
        await run.pool.evict("m", force=True)
        assert counts.starts.counts == {("m", "cold", "stopped"): 1}


async def test_exits_are_counted_by_their_causes() -> None:
    async with counted(keep_alive=20.0, grace_period=0.0) as (run, counts):
        await run.pool.ensure("idle")
        await asyncio.sleep(30.0)
        await run.pool.ensure("evicted")
        await run.pool.evict("evicted")
        await run.pool.ensure("crashed")
        run.world.of("crashed").end()
        await asyncio.sleep(0.001)
        assert counts.exits.counts == {
            ("idle", "IDLE"): 1,
            ("evicted", "EVICTED"): 1,
            ("crashed", "CRASHED"): 1,
        }
        assert counts.kills.counts == {}


async def test_a_process_that_does_not_end_is_counted_as_killed() -> None:
    async with counted(drain_timeout=1.0, stop_timeout=1.0) as (run, counts):
        ignored = {StopSignal.TERMINATE: NEVER, StopSignal.INTERRUPT: NEVER}
        run.world.script("m", Script(ends_on=ignored))
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert counts.kills.counts == {("m",): 1}
        assert counts.exits.counts == {("m", "EVICTED"): 1}


async def test_a_stop_is_timed_from_its_decision_with_its_drain() -> None:
    async with counted() as (run, counts):
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 4.0}))
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert counts.stop_s.total == pytest.approx(4.0)
        assert sum(counts.stop_s.counts) == 1


async def test_the_wait_in_the_queue_is_timed_without_the_download_before() -> None:
    async with counted(limits=limits(max_starts=1)) as (run, counts):
        run.world.script("first", sized(2, load=7.0))
        run.world.script("second", sized(2, load=1.0, fetch=1.0, on_disk=False))
        first = run.ensure("first")
        second = run.ensure("second", download=True)
        await outcomes(first, second)
        # Five fetches of a second; then two seconds until the first one is READY.
        assert counts.queue_wait_s.total == pytest.approx(2.0)
        assert sum(counts.queue_wait_s.counts) == 2


async def test_what_changes_during_a_start_does_not_begin_it_anew() -> None:
    async with counted() as (run, counts):
        run.world.script("m", Script(prepare=5.0, spawn=0.5, load=0.5))
        ensured = run.ensure("m")
        await asyncio.sleep(4.0)
        assert run.phase("m") is Phase.PREPARING
        async with holding(run):
            await outcomes(ensured)
        assert counts.start_s["cold"].total == pytest.approx(6.0)


async def test_a_wait_that_ends_without_a_start_is_timed_and_no_start_is_counted() -> None:
    async with counted(limits=limits(max_starts=1)) as (run, counts):
        run.world.script("first", sized(2, load=7.0))
        first = run.ensure("first")
        second = run.ensure("second")
        await asyncio.sleep(1.0)
        assert run.phase("second") is Phase.QUEUED
        second.cancel()
        await outcomes(first, second)
        assert counts.queue_wait_s.total == pytest.approx(1.0)
        assert sum(counts.queue_wait_s.counts) == 2
        assert counts.starts.counts == {("first", "cold", "ready"): 1}


async def test_the_longest_waits_are_timed_those_that_end_in_pool_full() -> None:
    async with counted(limits=limits(max_starts=1, queue_timeout=100.0)) as (run, counts):
        run.world.script("first", sized(2, load=500.0))
        first = run.ensure("first")
        (refused,) = await outcomes(run.ensure("second"))
        assert isinstance(refused, PoolFull)
        assert counts.queue_wait_s.total == pytest.approx(100.0)
        await run.pool.evict("first", force=True)
        await outcomes(first)


async def test_what_an_earlier_service_began_is_not_counted_but_an_exit_is() -> None:
    lives = [PoolCounts(ModelLabels(lambda _model: True), now)]

    def observe(change: Publish) -> None:
        lives[-1].observe(change)

    async with running(observers=[observe]) as run:
        run.world.script("starting", Script(load=9.0))
        run.world.script("preparing", Script(prepare=NEVER))
        run.world.script("stopping", Script(ends_on={StopSignal.TERMINATE: 9.0}))
        run.world.script("orphan", Script(ends_on={StopSignal.TERMINATE: 9.0}))
        await run.pool.ensure("ready")
        await run.pool.ensure("stopping")
        run.ask("starting")
        run.ask("preparing")
        await asyncio.sleep(1.0)
        stopping = asyncio.create_task(run.pool.evict("stopping"))
        await asyncio.sleep(1.0)
        run.world.records.write()
        await run.pool.ensure("orphan")
        await run.kill(written=False)
        stopping.cancel()
        lives.append(PoolCounts(ModelLabels(lambda _model: True), now))
        await run.start()
        await asyncio.sleep(20.0)
        assert run.phase("starting") is Phase.READY
        await run.pool.evict("ready")
        assert lives[-1].starts.counts == {}
        # The orphan is no server of the pool.
        assert lives[-1].exits.counts == {("stopping", "EVICTED"): 1, ("ready", "EVICTED"): 1}
        assert sum(lives[-1].stop_s.counts) == 1, "that of ready, which this service decided"
    assert lives[-1].is_idle


async def test_a_replacement_beside_the_current_server_is_a_start_and_an_exit() -> None:
    settings = Settings(runtime_model="m", memory_limit=8, keep_alive=300.0, grace_period=0.0)
    async with counted(models={"m": settings}, limits=limits(sample_interval=1.0)) as (run, counts):
        run.world.script("m", sized(4, load=1.0, grown=5), sized(4, load=1.0))
        await run.pool.ensure("m")
        await asyncio.sleep(60.0)
        assert counts.starts.counts[("m", "cold", "ready")] == 2
        assert counts.exits.counts == {("m", "MEMORY_LIMIT"): 1}
