"""What Metal recommends becomes the budget of a running pool, where none is configured."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pool_service.access.authentication import Rules
from pool_service.adapters.memory.machine_memory import MacMemory
from pool_service.adapters.process.control_groups import ControlGroups
from pool_service.client_registry import ClientRegistry
from pool_service.config import ConfigSource
from pool_service.pool import Pool
from pool_service.reloader import Reloader
from tests.pool.running import running

pytestmark = pytest.mark.looptime

GIB = 1024**3


class Unchanged:
    """The runtimes of a configuration that stays."""

    def replace(self, _options: object) -> None: ...

    async def program_flaw(self, _name: str) -> None: ...

    async def argument_flaws(self, _settings: object) -> list[str]:
        return []


class Following:
    """A reloader that is told what Metal recommends, and the pool and the file that it goes by."""

    def __init__(self, pool: Pool, file: Path, machine: MacMemory) -> None:
        source = ConfigSource(file, {}, {})
        runtimes: Any = Unchanged()
        self.pool, self.file = pool, file
        self.working_sets = asyncio.Queue[int]()
        config = source.load()
        clients = ClientRegistry(Rules(), config)
        self.reloader = Reloader(source, config, machine, runtimes, pool, clients, ControlGroups())

    async def told(self, working_set: int) -> float:
        """Return the budget when it was taken over."""
        self.working_sets.put_nowait(working_set)
        following = asyncio.create_task(self.reloader.apply_working_sets(self.working_sets))
        await asyncio.sleep(1)
        following.cancel()
        return self.budget

    @property
    def budget(self) -> float:
        return self.pool.totals().memory_budget


Begin = Callable[..., AbstractAsyncContextManager[Following]]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Run a pool of a Mac with 128 GiB, by default with nothing configured."""
    machine = MacMemory(dict[str, int]().get)
    monkeypatch.setattr(machine, "total", lambda: 128 * GIB)

    @asynccontextmanager
    async def begun(configuration: str = "# nothing") -> AsyncIterator[Following]:
        file = tmp_path / "pool.toml"
        file.write_text(configuration)
        async with running() as run:
            yield Following(run.pool, file, machine)

    return begun


async def test_the_recommended_working_set_becomes_the_budget_as_soon_as_it_is_known(
    begin: Begin,
) -> None:
    async with begin() as following:
        await following.reloader.reload()
        assert following.budget == 96 * GIB
        assert await following.told(107 * GIB) == 107 * GIB
        await following.reloader.reload()
        assert following.budget == 107 * GIB, "also after another reload"


async def test_a_budget_that_is_configured_stays(begin: Begin) -> None:
    async with begin("[memory]\nbudget = '50GiB'") as following:
        await following.reloader.reload()
        assert await following.told(107 * GIB) == 50 * GIB


async def test_the_working_set_is_applied_to_the_last_read_configuration_and_not_to_the_file(
    begin: Begin,
) -> None:
    async with begin() as following:
        following.file.write_text("[service]\nmax_starts = 7")
        await following.reloader.reload()
        following.file.write_text("[memory]\nbudget = '50GiB'")
        assert await following.told(107 * GIB) == 107 * GIB


async def test_a_pool_that_stops_takes_over_nothing_and_does_not_fail(begin: Begin) -> None:
    async with begin() as following:
        await following.pool.shutdown()
        following.working_sets.put_nowait(107 * GIB)
        task = asyncio.create_task(following.reloader.apply_working_sets(following.working_sets))
        await asyncio.sleep(1)
        assert not task.done()
        task.cancel()
