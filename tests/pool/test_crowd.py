"""Over 200 models with capacity for three and 10,000 Ensures at random times, in virtual time."""

import asyncio
import random
import statistics
from dataclasses import replace

import pytest

from pool_service.change_history import Change
from pool_service.core.errors import PoolFull, QueueFull
from pool_service.core.server import Phase, Server
from tests.pool.running import LIMITS, Running, running
from tests.world import Script

# With the processes, since it takes as long as they do.
pytestmark = [pytest.mark.looptime, pytest.mark.process]

MODELS = 200
ENSURES = 10_000
NEEDS = 10
ROOM = 3
LONGEST_BY_MEAN = 12.0
"""Nobody who is served waits longer than so many times the mean."""

COMING_OR_THERE = {
    *(Phase.PREPARING, Phase.SPAWNING, Phase.STARTING),
    *(Phase.READY, Phase.STOPPING, Phase.CLEANING_UP),
}


class Crowd:
    """Callers who ask, use what they get for a while, and go."""

    def __init__(self, run: Running, seed: int) -> None:
        self.run = run
        self.chance = random.Random(seed)
        self.waits: list[float] = []
        self.refusals: list[PoolFull | QueueFull] = []

    async def come(self) -> None:
        async with asyncio.TaskGroup() as callers:
            for _ in range(ENSURES):
                await asyncio.sleep(self.chance.expovariate(2.0))
                rank = min(int(self.chance.paretovariate(0.8)) - 1, MODELS - 1)
                callers.create_task(self.call(f"m{rank}"))

    async def call(self, model: str) -> None:
        began = asyncio.get_running_loop().time()
        try:
            server = (await self.run.pool.ensure(model)).server
        except (PoolFull, QueueFull) as error:
            self.refusals.append(error)
            return
        self.waits.append(asyncio.get_running_loop().time() - began)
        process = next(p for p in self.run.world.living if p.identity == server.identity)
        process.script.requests = (process.script.requests or 0) + 1
        await asyncio.sleep(self.chance.expovariate(1.0))
        assert process.alive, "a server in use was ended"
        process.script.requests -= 1


def most_at_once(changes: list[Change[Server]]) -> int:
    """How many servers took up room at a time, by what was told of them."""
    there: set[str] = set()
    most = 0
    for change in changes:
        takes = not change.removed and change.server.phase in COMING_OR_THERE
        (there.add if takes else there.discard)(change.server.model)
        most = max(most, len(there))
    return most


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1))
async def test_the_budget_holds_nobody_starves_and_nothing_in_use_goes(seed: int) -> None:
    limits = replace(LIMITS, memory_budget=ROOM * NEEDS, sample_interval=10.0, queue_timeout=600.0)
    async with running(limits=limits, grace_period=1.0) as run:
        for number in range(MODELS):
            script = Script(load=1.0, needs=NEEDS, takes=NEEDS, requests=0)
            run.world.script(f"m{number}", script)
        crowd = Crowd(run, seed)
        await crowd.come()
        assert len(crowd.waits) + len(crowd.refusals) == ENSURES
        assert most_at_once(run.changes) == ROOM
        assert all(error.retry_after > 0 for error in crowd.refusals)
        assert max(crowd.waits) <= LONGEST_BY_MEAN * statistics.mean(crowd.waits)
