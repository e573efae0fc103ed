"""Claims about a service that ends and leaves its servers to the next, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.errors import ShuttingDown
from pool_service.core.server import Phase, StopSignal
from pool_service.use_recorder import USE_RECORD_INTERVAL_S
from tests.pool.running import LIMITS, now, running
from tests.world import KILLED, NEVER, Script, outcomes

pytestmark = pytest.mark.looptime


async def test_what_runs_is_left_running_and_the_next_service_has_it() -> None:
    async with running() as run:
        before = (await run.pool.ensure("m")).server
        await run.pool.leave()
        assert len(run.world.living) == 1
        assert run.world.signals("m") == []
        await run.start()
        ensured = await run.pool.ensure("m")
        assert not ensured.started
        assert ensured.server.identity == before.identity


async def test_leaving_takes_no_time_however_busy_the_servers_are() -> None:
    async with running() as run:
        run.world.script("m", Script(requests=3, check=50.0))
        await run.pool.ensure("m")
        begun = now()
        await run.pool.leave()
        assert now() == begun
        await run.start()
        run.world.of("m").script.requests = 0


async def test_all_waiters_get_the_reason() -> None:
    async with running(limits=replace(LIMITS, max_starts=2, backoff_initial=50.0)) as run:
        run.world.script("dies", Script(load=9.0, dies=1.0, report=KILLED), Script())
        run.world.script("prepares", Script(prepare=500.0))
        run.world.script("loads", Script(load=500.0))
        names = ("dies", "prepares", "loads", "queued")
        calls = [run.ensure(name) for name in names]
        await asyncio.sleep(2)
        phases = [Phase.BACKING_OFF, Phase.PREPARING, Phase.STARTING, Phase.QUEUED]
        assert [run.phase(name) for name in names] == phases
        await run.pool.leave()
        assert all(isinstance(told, ShuttingDown) for told in await outcomes(*calls))
        assert isinstance((await outcomes(run.pool.ensure("late")))[0], ShuttingDown)
        await run.start()
        left = {server.model: server.phase for server in run.pool.page(None, 10)}
        assert left == {"dies": Phase.FAILED, "loads": Phase.STARTING}
        assert run.server("dies").retry_at > now()


async def test_a_spawn_that_is_under_way_is_waited_for_and_recorded() -> None:
    async with running() as run:
        run.world.script("m", Script(spawn=5.0, load=50.0))
        call = run.ensure()
        await asyncio.sleep(1)
        await run.pool.leave()
        assert now() == pytest.approx(5.0)
        await outcomes(call)
        recorded = run.world.records.says("m")
        assert recorded is not None
        assert (recorded.phase, recorded.identity) == (
            Phase.STARTING,
            run.world.of("m").identity,
        )
        await run.start()


async def test_last_uses_are_written() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await asyncio.sleep(100)
        await run.pool.ensure("m", keep_alive=70.0)
        used_at = now()
        await run.pool.leave()
        recorded = run.world.records.says("m")
        assert recorded is not None
        assert (recorded.last_used_at, recorded.keep_alive) == (used_at, 70.0)
        await run.start()


async def test_nothing_is_done_or_written_after_the_end() -> None:
    async with running(keep_alive=20.0, limits=replace(LIMITS, probe_interval=15.0)) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(USE_RECORD_INTERVAL_S + 1)
        run.world.script("stops", Script(load=0.0, ends_on={StopSignal.TERMINATE: NEVER}))
        await asyncio.gather(run.pool.ensure("m"), run.pool.ensure("stops"))
        evicting = asyncio.create_task(run.pool.evict("stops", force=True))
        await asyncio.sleep(1)
        await run.pool.leave()
        await outcomes(evicting)
        calls, puts = len(run.world.calls), len(run.world.records.puts)
        run.pool.escalate()
        await asyncio.sleep(500)
        assert (len(run.world.calls), len(run.world.records.puts)) == (calls, puts)
        assert run.world.living
        await run.start()


async def test_evictions_under_way_are_reported_and_what_stops_goes_on_stopping() -> None:
    async with running() as run:
        run.world.script("stops", Script(ends_on={StopSignal.TERMINATE: 30.0}))
        run.world.script("asked", Script(check=NEVER))
        await asyncio.gather(run.pool.ensure("stops"), run.pool.ensure("asked"))
        evicting = [asyncio.create_task(run.pool.evict(name)) for name in ("stops", "asked")]
        await asyncio.sleep(1)
        await run.pool.leave()
        for told in await outcomes(*evicting, run.pool.evict("asked")):
            assert isinstance(told, ShuttingDown)
            assert "next one" in str(told)
        await run.start()
        assert run.phase("stops") is Phase.STOPPING
        assert run.phase("asked") is Phase.READY
        await asyncio.sleep(30)
        assert run.phase("stops") is None


async def test_a_shutdown_of_a_service_that_leaves_stops_nothing() -> None:
    async with running() as run:
        run.world.script("slow", Script(spawn=5.0))
        await run.pool.ensure("m")
        run.ask("slow")
        await asyncio.sleep(1)
        await asyncio.gather(run.pool.leave(), run.pool.shutdown())
        await run.pool.shutdown()
        assert len(run.world.living) == 2
        assert run.world.times("signal") == []
        await run.start()


async def test_watchers_are_ended() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.leave()
        await run.end()
        assert run.changes[-1].server.phase is Phase.READY
        await run.start()
