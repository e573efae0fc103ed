"""Servers outgrow their memory limits in random worlds, in virtual time."""

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from pool_service.core.errors import PoolError
from tests.pool.running import DEFAULTS, LIMITS, Running, running
from tests.world import Script

if TYPE_CHECKING:
    from pool_service.core.types import Settings

pytestmark = pytest.mark.looptime

MODELS = ["a", "b", "c"]
STEPS = 150


class Chaos:
    """Callers, growth, deaths and restarts at random; what must hold is asserted after each."""

    def __init__(self, run: Running, seed: int) -> None:
        self.run = run
        self.chance = random.Random(seed)
        self.calls: set[asyncio.Task[object]] = set()
        self.holds: list[asyncio.Task[None]] = []
        self.busy_at_stop: list[str] = []
        for model in MODELS:
            run.world.renewed.add(model)
            scripts = [
                Script(load=self.chance.uniform(0.1, 3.0), needs=40, takes=40) for _ in range(40)
            ]
            run.world.script(model, *scripts)

    async def step(self) -> None:
        does = self.chance.choice(
            (self.ensure, self.hold, self.release, self.grow, self.work, self.rest, self.kill)
            if self.chance.random() < 0.9
            else (self.ensure, self.grow, self.evict)
        )
        does()
        await asyncio.sleep(self.chance.choice([0.0, 0.1, 1.0, 5.0]))
        self.check()

    def ensure(self) -> None:
        self.call(self.run.pool.ensure(self.chance.choice(MODELS)))

    def evict(self) -> None:
        force = self.chance.random() < 0.3
        self.call(self.run.pool.evict(self.chance.choice(MODELS), force=force))

    def call(self, work: Coroutine[object, object, object]) -> None:
        async def told() -> None:
            with contextlib.suppress(PoolError):
                await work

        task: asyncio.Task[object] = asyncio.create_task(told())
        self.calls.add(task)
        task.add_done_callback(self.calls.discard)

    def hold(self) -> None:
        async def held() -> None:
            with contextlib.suppress(PoolError):
                async with contextlib.aclosing(
                    self.run.pool.hold(self.chance.choice(MODELS))
                ) as states:
                    async for _ in states:
                        pass

        self.holds.append(asyncio.create_task(held()))

    def release(self) -> None:
        if self.holds:
            self.holds.pop(self.chance.randrange(len(self.holds))).cancel()

    def grow(self) -> None:
        for process in self.run.world.living:
            process.script.grown += self.chance.choice([0, 10, 40])

    def work(self) -> None:
        for process in self.run.world.living:
            process.script.requests = self.chance.choice([0, 1])

    def rest(self) -> None:
        for process in self.run.world.living:
            process.script.requests = 0

    def kill(self) -> None:
        if self.run.world.living and self.chance.random() < 0.5:
            self.chance.choice(self.run.world.living).end()

    def check(self) -> None:
        self.run.world.check()
        servers = self.run.pool.page(None, 100)
        for model in MODELS:
            named = [server for server in servers if server.model == model]
            assert len(named) <= 2, "at most one beside it"
            assert sum(server.is_current for server in named) <= 1
            living = [process for process in self.run.world.living if process.model == model]
            assert len(living) <= len(named), "a process that no server is known of"
        grown = sum(process.script.grown for process in self.run.world.processes.values())
        totals = self.run.pool.totals()
        assert totals.memory_reserved - grown <= totals.memory_budget

    async def end(self) -> None:
        """Everybody lets go, and everything comes to rest."""
        self.rest()
        for hold in self.holds:
            hold.cancel()
        await asyncio.gather(*self.holds, return_exceptions=True)
        async with asyncio.timeout(10_000):
            await asyncio.gather(*self.calls)
        await asyncio.sleep(2_000)
        assert self.run.pool.page(None, 100) == [], "all that is unused has gone"
        assert self.run.world.living == []


@pytest.mark.parametrize("budget", [1000, 130, 60], ids=["ample", "scarce", "for one"])
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_nothing_is_lost_or_doubled(budget: int, seed: int) -> None:
    limits = replace(LIMITS, sample_interval=2.0, memory_budget=budget, queue_timeout=200.0)
    model = replace(DEFAULTS, grace_period=1.0, keep_alive=100.0, memory_limit=50)
    models: dict[str, Settings] = {name: replace(model, runtime_model=name) for name in MODELS}
    async with running(limits=limits, models=models) as run:
        chaos = Chaos(run, seed)
        for _ in range(STEPS):
            await chaos.step()
        await chaos.end()
