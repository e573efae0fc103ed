"""How many standbys a pool keeps, by what it was asked for."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.results import Every
from pool_service.core.standby_need import NEED_MEMORY_S
from tests.pool.running import LIMITS, running

pytestmark = pytest.mark.looptime

FIVE = ["a", "b", "c", "d", "e"]


async def test_after_five_models_at_once_five_stand_by_and_after_a_quiet_time_one() -> None:
    async with running(limits=replace(LIMITS, standby=1)) as run:
        kept = run.world.kept
        await asyncio.gather(*map(run.ensure, FIVE))
        assert (kept[-1].allowed, kept[-1].refill) == (5, True)
        assert all(not one.refill for one in kept if 1 < one.allowed < 5)
        await run.pool.evict(Every.ALL, force=True)
        await asyncio.sleep(NEED_MEMORY_S - 10)
        assert kept[-1].allowed == 5
        await asyncio.sleep(20)
        assert kept[-1].allowed == 1
