"""Claims about what is on disk when, in virtual time."""

import asyncio

import pytest

from pool_service.core.server import LastRun
from pool_service.use_recorder import USE_RECORD_INTERVAL_S
from tests.pool.running import now, running

pytestmark = pytest.mark.looptime


async def test_a_use_is_on_disk_within_its_pace() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(200)
        await run.pool.ensure("m", keep_alive=400.0)
        used_at = now()
        await asyncio.sleep(USE_RECORD_INTERVAL_S + 0.1)
        await run.restart()
        server = run.server("m")
        assert (server.last_used_at, server.keep_alive) == (used_at, 400.0)


async def test_the_intent_is_on_disk_before_the_process_is_spawned() -> None:
    async with running() as run:
        run.world.records.settling = 2.0
        call = run.ensure()
        await asyncio.sleep(1.9)
        assert run.world.times("spawn") == []
        await call
        assert run.world.times("spawn")[0].at == pytest.approx(2.0)


async def test_the_requested_stop_is_on_disk_before_the_signal() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        run.world.records.settling = 2.0
        begun = now()
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1.9)
        assert run.world.signals("m") == []
        await evicting
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(begun + 2.0))]


async def test_no_start_or_signal_waits_until_a_pin_has_been_flushed() -> None:
    async with running() as run:
        run.world.records.flushing = 60.0
        pinning = asyncio.create_task(run.pool.pin("m", pinned=True))
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert run.world.signals("m")
        assert not pinning.done()
        assert (await pinning).pinned
        assert now() == 60.0


async def test_a_process_that_ends_while_its_stop_is_recorded_is_not_signalled() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        run.world.records.settling = 2.0
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        run.world.of("m").end()
        await evicting
        await asyncio.sleep(2)
        assert run.world.signals("m") == []


async def test_a_disk_that_fails_stops_nothing_and_is_reported() -> None:
    async with running() as run:
        assert run.pool.degraded_reason == ""
        run.world.records.degraded_reason = "the disk is full"
        await run.pool.ensure("m")
        assert run.pool.degraded_reason == "the disk is full"
        assert len(await run.pool.evict("m")) == 1


async def test_a_removed_server_leaves_its_past() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.evict("m")
        run.world.records.write()
        past = run.world.records.disk["m"]
        assert isinstance(past, LastRun)
        assert past.generation == 1
        assert past.last_exit is not None
