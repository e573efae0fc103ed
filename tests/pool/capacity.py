"""Models of known sizes in a pool with a budget."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

from pool_service.core.events import Event
from pool_service.core.limits import Limits
from pool_service.core.server import Phase, Server
from pool_service.pool import Pool
from tests.pool.running import LIMITS, Running, running
from tests.world import Script, When

BUDGET = 10


class Watched(Pool):
    """A pool that holds no more than its budget after each event, or fails."""

    def feed(self, event: Event) -> None:
        super().feed(event)
        totals = self.totals()
        assert totals.memory_reserved <= totals.memory_budget, event


def limits(**changed: object) -> Limits:
    """Room for BUDGET bytes, nobody looked at without need."""
    return replace(LIMITS, **{"memory_budget": BUDGET, **changed})  # type: ignore[arg-type]


def sized(size: int, *, load: When = 1.0, requests: int | None = 0, **more: object) -> Script:
    """A model that takes what it is expected to need."""
    return Script(needs=size, takes=size, load=load, requests=requests, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def room(*, kind: type[Pool] = Watched, **more: object) -> AsyncIterator[Running]:
    """A pool with a budget, where whoever was just used may go at once."""
    asked = {"limits": limits(), "grace_period": 0.0, "kind": kind, **more}
    async with running(**asked) as run:  # type: ignore[arg-type]
        yield run


async def fill(run: Running, *models: str, size: int = 5) -> None:
    """These are READY, the one after the other."""
    for model in models:
        run.world.script(model, sized(size))
        await run.pool.ensure(model)


def there(run: Running) -> list[str]:
    """The models that take up room."""
    return [one.model for one in run.pool.page(None, 1000) if one.takes_memory]


def queued(run: Running) -> list[str]:
    """The models that wait for their turn, in that order."""
    lined = [one for one in run.pool.page(None, 1000) if one.phase is Phase.QUEUED]
    return [one.model for one in sorted(lined, key=lambda one: one.position)]


def told(run: Running, model: str) -> Iterable[Server]:
    """What watchers were told of a model, in order."""
    return [change.server for change in run.changes if change.server.model == model]
