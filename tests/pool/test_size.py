"""What one call or event costs does not depend on how many servers there are."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

import pytest

from pool_service.core import events
from pool_service.core.activity import Activity
from pool_service.core.sampler import SAMPLED_AT_ONCE
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.types import FOREVER, MemorySample, ProbeResult
from tests.pool.effort import Effort
from tests.pool.holds import holding
from tests.pool.running import LIMITS, Running, running
from tests.world import Script, settled

pytestmark = pytest.mark.looptime

FEW, SOME, MANY = 5, SAMPLED_AT_ONCE + 8, 500
NEEDS = 10
MOST = 1.15
"""How much more it may cost among many than among few."""

ONE = "m3"
"""One that is there in both cases."""


Act = Callable[[Running], Awaitable[None]]


async def warm_ensure(run: Running) -> None:
    await run.pool.ensure(ONE)


async def cold_ensure(run: Running) -> None:
    await run.pool.ensure("new")


async def evict(run: Running) -> None:
    assert len(await run.pool.evict(ONE)) == 1


async def hold(run: Running) -> None:
    async with holding(run, ONE):
        pass


async def death(run: Running) -> None:
    run.world.of(ONE).end()
    await settled(lambda: run.changes[-1].server.phase is Phase.FAILED)


async def probe(run: Running) -> None:
    run.pool.feed(events.ServerProbed(ServerId(ONE, 1), ProbeResult(answered=True, progress=())))


async def use(run: Running) -> None:
    run.pool.feed(events.ActivityReported(ServerId(ONE, 1), Activity(0)))


async def page(run: Running) -> None:
    assert len(run.pool.page(ServerId("m1", 1), 3)) == 3
    run.pool.totals()


async def effort(servers: int, act: Act, *, room: float = FOREVER) -> int:
    """The instructions for one act in a pool with so many READY servers, and room for `room`."""
    limits = replace(LIMITS, max_starts=MANY, queue_limit=MANY, memory_budget=room * NEEDS)
    async with running(limits=limits) as run:
        run.world.default = Script(needs=NEEDS, takes=NEEDS, load=0.3)
        await asyncio.gather(*(run.pool.ensure(f"m{number}") for number in range(servers)))
        # Each was looked at.
        await asyncio.sleep(30)
        with Effort() as counted:
            await act(run)
        return counted.instructions


@pytest.mark.parametrize("act", [warm_ensure, evict, hold, death, probe, use, page])
async def test_a_call_or_event_costs_the_same_among_many(act: Act) -> None:
    among_few, among_many = await effort(FEW, act), await effort(MANY, act)
    assert among_many <= MOST * among_few, f"{among_few} instructions became {among_many}"


async def test_a_start_costs_the_same_among_many() -> None:
    """The looks at the memory that come with it are at so many servers, and no more."""
    among_some, among_many = await effort(SOME, cold_ensure), await effort(MANY, cold_ensure)
    assert among_many <= MOST * among_some, f"{among_some} instructions became {among_many}"


async def test_who_goes_for_a_start_is_found_in_proportion() -> None:
    among_some = await effort(SOME, cold_ensure, room=SOME)
    among_many = await effort(MANY, cold_ensure, room=MANY)
    assert among_many * SOME <= among_some * MANY


async def test_all_are_probed_within_an_interval_a_few_at_a_time() -> None:
    limits = replace(LIMITS, max_starts=MANY, queue_limit=MANY, sample_interval=10.0)
    async with running(limits=limits) as run:
        models = {f"m{number}" for number in range(3 * SAMPLED_AT_ONCE)}
        await asyncio.gather(*map(run.pool.ensure, models))
        await asyncio.sleep(10)
        looks: list[set[str]] = []
        sample = run.world.sample

        async def noted(servers: Collection[Server]) -> MemorySample:
            looks.append({server.model for server in servers})
            return await sample(servers)

        run.world.sample = noted  # type: ignore[method-assign]
        await asyncio.sleep(10.5)
        assert set.union(*looks) == models
        assert max(map(len, looks)) == SAMPLED_AT_ONCE
