"""Claims about the generations of a model over the lives of its servers, in virtual time."""

import asyncio

import pytest

from pool_service.core.server import Phase
from tests.pool.capacity import room, sized
from tests.pool.running import now, running
from tests.world import CRASH, Script

pytestmark = pytest.mark.looptime


async def test_a_start_has_the_generation_asked_for_and_later_ones_count_on_from_it() -> None:
    async with running() as run:
        assert (await run.pool.ensure("m", least_generation=17)).server.generation == 17
        assert (await run.pool.ensure("m", least_generation=99)).server.generation == 17
        await run.pool.evict("m")
        assert (await run.pool.ensure("m", least_generation=3)).server.generation == 18


async def test_a_restart_of_the_service_forgets_no_generation() -> None:
    async with running() as run:
        await run.pool.ensure("m", least_generation=17)
        await run.restart()
        assert run.server("m").generation == 17
        await run.pool.evict("m")
        await run.restart()
        assert (await run.pool.ensure("m")).server.generation == 18


async def test_a_start_has_it_after_a_wait_in_the_queue_too() -> None:
    async with room() as run:
        run.world.script("busy", sized(10, requests=None))
        run.world.script("m", sized(10))
        await run.pool.ensure("busy")
        call = run.ensure("m", least_generation=17)
        await asyncio.sleep(3)
        assert run.phase("m") is Phase.QUEUED
        run.world.of("busy").script.requests = 0
        assert (await call).server.generation == 17
        assert now() > 3


async def test_each_process_of_a_hold_has_a_higher_one() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=10.0, report=CRASH))
        held = run.pool.hold("m", least_generation=17)
        seen: list[int] = []
        async for server in held:
            if server.phase is Phase.READY and server.generation not in seen:
                seen.append(server.generation)
            if len(seen) == 2:
                break
        await held.aclose()
        assert seen == [17, 18]


async def test_the_next_process_of_a_hold_of_a_running_server_has_the_one_asked_for() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        held = run.pool.hold("m", least_generation=17)
        assert (await anext(held)).generation == 1
        run.world.of("m").end(CRASH)
        async for server in held:
            if server.phase is Phase.READY and server.generation > 1:
                assert server.generation == 17
                break
        await held.aclose()
