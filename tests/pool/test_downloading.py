"""What is not on disk: refused, or downloaded by whoever allows it."""

import asyncio

import pytest

from pool_service.core.errors import FetchFailed, ModelNotOnDisk
from pool_service.core.server import Phase
from tests.pool.capacity import fill, room, told
from tests.pool.running import running
from tests.world import Script

pytestmark = pytest.mark.looptime


async def test_an_ensure_hides_no_download() -> None:
    async with running() as run:
        run.world.script("m", Script(on_disk=False))
        with pytest.raises(ModelNotOnDisk):
            await run.pool.ensure("m")
        assert run.world.times("fetch") == []
        assert run.phase("m") is None


async def test_one_download_serves_all_waiters_and_reports_its_progress() -> None:
    async with running() as run:
        run.world.script("m", Script(on_disk=False, fetch=10.0))
        calls = [run.ensure("m", download=True) for _ in range(3)]
        calls.append(run.ensure("m"))
        answers = await asyncio.gather(*calls)
        assert {answer.server.generation for answer in answers} == {1}
        assert len(run.world.times("fetch")) == 5
        fractions = [server.progress for server in told(run, "m") if server.phase is Phase.QUEUED]
        assert [f for f in fractions if f] == [0.25, 0.5, 0.75, 1.0]


async def test_a_download_ends_with_the_last_who_wants_it() -> None:
    async with running() as run:
        run.world.script("m", Script(on_disk=False, fetch=10.0))
        call = run.ensure("m", download=True)
        await asyncio.sleep(15)
        call.cancel()
        await asyncio.sleep(100)
        assert len(run.world.times("fetch")) == 2
        assert run.world.times("spawn") == []


async def test_while_one_is_downloaded_others_start() -> None:
    async with room() as run:
        run.world.script("m", Script(on_disk=False, fetch=100.0, needs=5))
        call = run.ensure("m", download=True)
        await asyncio.sleep(1)
        await fill(run, "a", "b")
        assert run.phase("m") is Phase.QUEUED
        await call


async def test_a_download_that_fails_is_reported_to_its_waiters() -> None:
    failure = FetchFailed("the hub cannot be reached", model="m")
    async with running() as run:
        run.world.script("m", Script(on_disk=False, raises={"fetch": failure}))
        with pytest.raises(FetchFailed):
            await run.pool.ensure("m", download=True)
