"""Claims about a pool over its budget: unused servers are evicted, whatever the reason."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.server import Phase
from pool_service.core.types import Settings
from pool_service.pool import Pool
from tests.pool.capacity import fill, limits, room, sized
from tests.pool.running import DEFAULTS, Running

pytestmark = pytest.mark.looptime

LOOKED_AT = limits(sample_interval=1.0)


def grow(run: Running, model: str, by: int) -> None:
    run.world.of(model).script = replace(run.world.of(model).script, grown=by)


async def test_idle_servers_that_grow_past_the_budget_go_until_the_rest_fits() -> None:
    async with room(kind=Pool, limits=LOOKED_AT) as run:
        await fill(run, "a", "b", "c", size=3)
        for model in "abc":
            grow(run, model, 3)
        await asyncio.sleep(20)
        totals = run.pool.totals()
        assert totals.memory_reserved <= totals.memory_budget
        assert len(run.world.living) == 1


async def test_what_is_busy_or_held_stays_though_it_is_too_much() -> None:
    async with room(kind=Pool, limits=LOOKED_AT) as run:
        run.world.script("a", sized(5, requests=1))
        await run.pool.ensure("a")
        hold = run.pool.hold("b")
        await anext(hold)
        await fill(run, "c", size=3)
        grow(run, "a", 20)
        await asyncio.sleep(20)
        assert run.phase("a") is Phase.READY
        assert run.phase("b") is Phase.READY
        assert run.phase("c") is None
        await hold.aclose()
        run.world.of("a").script.requests = 0


async def test_a_reload_that_lowers_the_budget_lets_idle_ones_go() -> None:
    async with room(kind=Pool, limits=LOOKED_AT) as run:
        await fill(run, "a", "b", size=5)
        catalogue = Catalogue(replace(DEFAULTS, grace_period=0.0))
        await run.pool.reload(catalogue, replace(LOOKED_AT, memory_budget=6))
        await asyncio.sleep(5)
        assert [process.model for process in run.world.living] == ["b"]


async def test_a_reload_that_lowers_a_group_lets_idle_ones_of_it_go() -> None:
    grouped = Settings(runtime_model="", grace_period=0.0, groups=("g",))
    models = {"a": grouped, "b": grouped}
    async with room(kind=Pool, limits=LOOKED_AT, models=models) as run:
        await fill(run, "a", "b", "c", size=3)
        catalogue = Catalogue(replace(DEFAULTS, grace_period=0.0), models)
        await run.pool.reload(catalogue, replace(LOOKED_AT, groups={"g": 1}))
        await asyncio.sleep(5)
        assert [process.model for process in run.world.living] == ["b", "c"]
