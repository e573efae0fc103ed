"""A pool over a scripted world, for the length of one test."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from pool_service.core.catalogue import Catalogue
from pool_service.core.requests import Ensured
from pool_service.core.types import Limits, Phase, Server, Settings
from pool_service.history import Change, History
from pool_service.pool import Pool
from pool_service.pool import World as Ports
from tests.world import World

DEFAULTS = Settings(
    runtime_model="",
    keep_alive=300.0,
    min_residency=10.0,
    start_timeout=120.0,
    drain_timeout=60.0,
    stop_timeout=5.0,
)


@dataclass
class Running:
    """A pool, its world, and all the changes that it told."""

    pool: Pool
    world: World
    changes: list[Change] = field(default_factory=list)

    def server(self, model: str) -> Server:
        return next(server for server in self.pool.page(None, 10_000) if server.model == model)

    def phase(self, model: str) -> Phase | None:
        found = [s.phase for s in self.pool.page(None, 10_000) if s.model == model]
        return found[0] if found else None

    def ensure(self, model: str = "m", **more: object) -> asyncio.Task[Ensured]:
        """Begin to ensure, in a task of its own that has already asked when this returns."""
        return asyncio.get_running_loop().create_task(self.pool.ensure(model, **more))  # type: ignore[arg-type]

    def phases(self, model: str = "m") -> list[Phase]:
        """Each phase that a model was in, in order."""
        told = [change.server.phase for change in self.changes if change.server.model == model]
        return [phase for i, phase in enumerate(told) if i == 0 or phase is not told[i - 1]]


def ports(world: World) -> Ports:
    return Ports(clock=world.clock, runtime=world, processes=world, probe=world)


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def running(
    *,
    capacity: int = 4096,
    max_starts: int = 8,
    failure_ttl: float = 600.0,
    port_attempts: int = 5,
    models: Mapping[str, Settings] | None = None,
    **settings: float,
) -> AsyncIterator[Running]:
    """A pool that is shut down at the end; nothing may be left over then."""
    before = asyncio.all_tasks()
    world = World()
    catalogue = Catalogue(replace(DEFAULTS, **settings), models or {})  # type: ignore[arg-type]
    limits = Limits(max_starts, failure_ttl, port_attempts)
    pool = Pool(ports(world), History(1000, capacity), catalogue, limits)
    run = Running(pool, world)
    recorder = asyncio.create_task(_record(run))
    await asyncio.sleep(0)
    try:
        yield run
    finally:
        await pool.shutdown()
        await recorder
    world.check()
    assert pool.page(None, 10) == []
    assert world.living == []
    await asyncio.sleep(0)
    assert {task for task in asyncio.all_tasks() - before if not task.done()} == set()


async def _record(run: Running) -> None:
    async for change in run.pool.history.follow(run.pool.history.revision):
        run.changes.append(change)
