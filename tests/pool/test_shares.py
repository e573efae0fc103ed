"""Claims about shares of the memory: whose servers go for whom, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from pool_service.core.errors import QuotaExceeded
from pool_service.core.server import Server
from pool_service.core.types import Account
from tests.pool.capacity import fill, queued, room, sized, there
from tests.pool.running import Running
from tests.world import NEVER, Script

pytestmark = pytest.mark.looptime

ENGINE = Account("engine", 0.6)
"""May take up six of the ten bytes."""

SMALL = Account("small", 0.2)


async def start(run: Running, model: str, size: int = 3, account: Account | None = ENGINE) -> None:
    run.world.script(model, sized(size))
    await run.pool.ensure(model, account=account)


def accounts(run: Running) -> dict[str, str]:
    return {one.model: one.account for one in run.pool.page(None, 1000)}


async def test_an_account_keeps_to_its_share_by_its_own_servers_alone() -> None:
    async with room() as run:
        await fill(run, "other", size=1)
        for model in ("a", "b", "c"):
            await start(run, model)
        assert there(run) == ["b", "c", "other"]
        assert accounts(run) == {"b": "engine", "c": "engine", "other": ""}


async def test_what_exceeds_the_share_is_refused_with_the_figures_and_others_may_start_it() -> None:
    async with room() as run:
        run.world.script("m", Script(needs=7))
        with pytest.raises(QuotaExceeded, match="your share of the memory is 6 B") as refused:
            await run.pool.ensure("m", account=ENGINE)
        assert (refused.value.limit, refused.value.most) == ("memory_share", 6)
        assert run.phase("m") is None
        await run.pool.ensure("m")
        # It is there, and costs the account nothing.
        await run.pool.ensure("m", account=ENGINE)
        assert accounts(run) == {"m": ""}


async def test_a_start_counts_to_who_has_most_room_of_those_that_wait_for_it() -> None:
    async with room() as run:
        run.world.script("m", sized(5))
        asked = [
            asyncio.create_task(run.pool.ensure("m", account=one)) for one in (SMALL, ENGINE, SMALL)
        ]
        await asyncio.gather(*asked)
        assert accounts(run) == {"m": "engine"}


async def test_a_start_for_which_the_own_user_waits_too_counts_to_nobody() -> None:
    async with room() as run:
        run.world.script("m", sized(9))
        await asyncio.gather(run.pool.ensure("m", account=SMALL), run.pool.ensure("m"))
        assert accounts(run) == {"m": ""}


async def to_the_end(held: AsyncGenerator[Server]) -> None:
    async for _ in held:
        pass


async def test_a_hold_counts_as_a_call_does() -> None:
    async with room() as run:
        run.world.script("m", sized(7))
        with pytest.raises(QuotaExceeded):
            await to_the_end(run.pool.hold("m", account=ENGINE))


async def test_a_caller_that_waits_for_its_own_share_keeps_nobody_waiting() -> None:
    async with room() as run:
        # Nothing tells that it is unused.
        run.world.script("mine", sized(4, check=NEVER))
        await run.pool.ensure("mine", account=ENGINE)
        run.world.script("more", sized(4))
        waiting = asyncio.create_task(run.pool.ensure("more", account=ENGINE))
        await asyncio.sleep(0.01)
        assert queued(run) == ["more"]
        await fill(run, "other", size=4)
        assert there(run) == ["mine", "other"]
        waiting.cancel()


async def test_a_server_that_is_started_again_counts_to_who_asks_then() -> None:
    async with room() as run:
        await start(run, "m")
        await run.pool.evict("m")
        await start(run, "m", account=None)
        assert accounts(run) == {"m": ""}
