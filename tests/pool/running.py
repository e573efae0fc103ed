"""A pool over a scripted world, for the length of one test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from pool_service.announcer import Observer
from pool_service.change_history import Change, History
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.core.results import Ensured
from pool_service.core.server import Phase, Role, Server
from pool_service.core.types import FOREVER, Settings
from pool_service.pool import Pool
from pool_service.ports import World as Ports
from tests.world import World

DEFAULTS = Settings(
    runtime_model="",
    keep_alive=300.0,
    grace_period=10.0,
    start_timeout=120.0,
    drain_timeout=60.0,
    stop_timeout=5.0,
)


LIMITS = Limits(probe_interval=FOREVER, sample_interval=FOREVER, endpoint_interval=FOREVER)
"""Nobody is looked at, so that years pass quickly."""

BUDGET = 5.0
"""Seconds that a recovery may take before the service begins."""


@dataclass
class Running:
    """A pool, its world, and all the changes that it told; `begin` makes the next service."""

    world: World
    begin: Callable[[], Pool]
    pool: Pool = field(init=False)
    changes: list[Change[Server]] = field(default_factory=list)
    _calls: list[asyncio.Task[Ensured]] = field(default_factory=list)
    _recorders: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """A service begins, and takes over what the one before left."""
        self.pool = self.begin()
        self._recorders.append(asyncio.create_task(self._record(self.pool)))
        await self.pool.recover(BUDGET)

    async def kill(self, *, written: bool = True) -> None:
        """The service is gone from one moment to the next, as by `kill -9`.

        written: what it had put is on disk already.
        """
        if written:
            self.world.records.write()
        self.world.records.lose()
        self.pool._ended = True
        self.pool._tasks.close()
        self.pool._timer.cancel()
        self.pool._uses.cancel()
        for task in self._calls:
            task.cancel()
        await self.pool._tasks.cancel_all()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self.pool._history.close()

    async def restart(self, *, written: bool = True) -> None:
        """It is killed and comes back at once."""
        await self.kill(written=written)
        await self.start()

    async def end(self) -> None:
        """All changes have been told."""
        await asyncio.gather(*self._recorders)

    async def _record(self, pool: Pool) -> None:
        async for change in pool._history.follow(pool._history.revision):
            self.changes.append(change)

    def server(self, model: str) -> Server:
        return next(server for server in self.pool.page(None, 10_000) if name_of(server) == model)

    def phase(self, model: str) -> Phase | None:
        found = [s.phase for s in self.pool.page(None, 10_000) if name_of(s) == model]
        return found[0] if found else None

    def ensure(self, model: str = "m", **more: object) -> asyncio.Task[Ensured]:
        """Begin to ensure, in a task of its own that has already asked when this returns."""
        call = asyncio.get_running_loop().create_task(self.pool.ensure(model, **more))  # type: ignore[arg-type]
        self._calls.append(call)
        return call

    def ask(self, model: str = "m") -> None:
        """Somebody ensures, and what they are told is of no matter."""
        self._calls.append(self.ensure(model))

    def phases(self, model: str = "m") -> list[Phase]:
        """Each phase that a model was in, in order."""
        told = [change.server.phase for change in self.changes if name_of(change.server) == model]
        return [phase for i, phase in enumerate(told) if i == 0 or phase is not told[i - 1]]


def name_of(server: Server) -> str:
    """Return a server's model, or for one that is not the model's own a name of its own."""
    if server.role is Role.ORPHAN:
        return f"(unknown: pid {server.generation})"
    return server.model if server.is_current else f"{server.model} (generation {server.generation})"


def ports(world: World) -> Ports:
    return Ports(
        clock=world.clock,
        runtime=world,
        processes=world,
        standbys=world,
        probe=world,
        memory=world,
        records=world.records,
        events=world.events,
        logs=world.logs,
    )


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def running(
    *,
    capacity: int = 4096,
    limits: Limits = LIMITS,
    models: Mapping[str, Settings] | None = None,
    aliases: Mapping[str, str] | None = None,
    only_listed: bool = False,
    home_model: str = "",
    kind: type[Pool] = Pool,
    observers: Sequence[Observer] = (),
    **settings: float,
) -> AsyncIterator[Running]:
    """A pool that is shut down at the end; nothing may be left over then."""
    before = asyncio.all_tasks()
    world = World()
    defaults = replace(DEFAULTS, **settings)  # type: ignore[arg-type]
    catalogue = Catalogue(defaults, models or {}, aliases or {}, only_listed, home_model)

    def begin() -> Pool:
        return kind(ports(world), History(1000, capacity), catalogue, limits, observers)

    run = Running(world, begin)
    await run.start()
    await asyncio.sleep(0)
    try:
        yield run
    finally:
        await run.pool.shutdown()
        await run.end()
    world.check()
    assert run.pool.page(None, 10) == []
    assert world.living == []
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert {task for task in left if not task.done()} == set()
