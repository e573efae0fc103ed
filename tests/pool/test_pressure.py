"""The machine is short of memory through others: nothing starts, nothing is stopped."""

import asyncio

import pytest

from pool_service.core.errors import PoolFull
from pool_service.core.placing import CALM, FAST_SURVEY, FRESH
from pool_service.core.types import Phase
from tests.pool.roomy import fill, limits, queued, room
from tests.pool.running import now

pytestmark = pytest.mark.looptime


async def test_nothing_starts_under_pressure_and_for_a_while_after() -> None:
    async with room(limits=limits(queue_timeout=1000.0)) as run:
        run.world.pressured = True
        call = run.ensure("m")
        await asyncio.sleep(20)
        assert run.server("m").detail == "waits for the machine, which is short of memory"
        run.world.pressured = False
        calm_since = now()
        await call
        started = run.world.times("spawn", "m")[0].at
        assert CALM - FAST_SURVEY <= started - calm_since <= CALM + FRESH


async def test_a_relapse_is_waited_out_from_its_end() -> None:
    async with room(limits=limits(queue_timeout=1000.0)) as run:
        run.world.pressured = True
        call = run.ensure("m")
        for pressured in (False, True, False, True):
            await asyncio.sleep(CALM / 2)
            run.world.pressured = pressured
        await asyncio.sleep(1)
        run.world.pressured = False
        assert queued(run) == ["m"]
        await call


async def test_what_is_ready_is_given_out_and_stays() -> None:
    async with room(limits=limits(queue_timeout=5.0)) as run:
        await fill(run, "a")
        await asyncio.sleep(2)
        run.world.pressured = True
        with pytest.raises(PoolFull) as caught:
            await run.pool.ensure("m")
        assert "short of memory" in str(caught.value)
        assert caught.value.retry_after > 0
        assert not (await run.pool.ensure("a")).started
        assert run.phase("a") is Phase.READY
