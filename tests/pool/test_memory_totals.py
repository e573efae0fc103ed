"""What the pool says of the machine's memory: as long as a sample still says how it is."""

import asyncio

import pytest

from pool_service.core.sampler import CALM_S
from tests.pool.capacity import limits, room

pytestmark = pytest.mark.looptime


async def test_without_servers_nobody_knows_whether_memory_is_short() -> None:
    async with room(limits=limits(sample_interval=30.0)) as run:
        assert not run.pool.totals().memory_current, "there was no sample yet"
        await run.pool.ensure("m")
        run.world.pressured = True
        await asyncio.sleep(31.0)
        assert run.pool.totals().memory_pressured
        await run.pool.evict("m")
        assert run.pool.totals().memory_current
        await asyncio.sleep(CALM_S + 1.0)
        assert not run.pool.totals().memory_current


async def test_a_sample_holds_until_long_after_the_next_one_is_due() -> None:
    async with room(limits=limits(sample_interval=30.0)) as run:
        await run.pool.ensure("m")
        for _ in range(100):
            await asyncio.sleep(1.0)
            assert run.pool.totals().memory_current
