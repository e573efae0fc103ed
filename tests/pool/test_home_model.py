"""Claims about the model that comes back by itself, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import RuntimeUnavailable
from pool_service.core.home_model import HOME_AFTER_S, MAX_PAUSE_S
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase
from pool_service.core.types import FOREVER
from tests.pool.capacity import limits, room, sized, there
from tests.pool.running import DEFAULTS, LIMITS, Running, now, running
from tests.world import NEVER, REJECTED, Script

pytestmark = pytest.mark.looptime

HOME, OTHER = "home", "other"
SETTINGS = replace(DEFAULTS, grace_period=0.0)


@asynccontextmanager
async def at_home(other: Script, *, size: int = 6) -> AsyncIterator[Running]:
    """A pool whose home model has been READY and is just in the way of another one."""
    async with room() as run:
        run.world.script(HOME, sized(size))
        run.world.script(OTHER, other)
        await run.pool.reload(Catalogue(SETTINGS, home_model=HOME), limits())
        await asyncio.sleep(10)
        assert there(run) == [HOME]
        await run.pool.ensure(OTHER)
        yield run


async def test_it_comes_with_the_service_and_stays_and_nothing_wakes_the_pool_for_it() -> None:
    async with running(home_model=HOME) as run:
        await asyncio.sleep(5)
        assert run.phase(HOME) is Phase.READY
        assert run.pool._machine.next_deadline() == FOREVER
        await asyncio.sleep(10 * DEFAULTS.keep_alive)
        assert run.phases(HOME)[-1] is Phase.READY
        assert len(run.world.times("spawn")) == 1


async def test_it_gives_way_to_another_and_comes_back_once_that_is_unused() -> None:
    async with at_home(sized(6)) as run:
        assert there(run) == [OTHER]
        used_at = now()
        await asyncio.sleep(HOME_AFTER_S - 1)
        assert there(run) == [OTHER]
        await asyncio.sleep(5)
        assert there(run) == [HOME]
        assert run.phase(HOME) is Phase.READY
        assert run.world.times("spawn")[-1].at == pytest.approx(used_at + HOME_AFTER_S, abs=1)


async def test_what_is_used_at_its_endpoint_alone_is_not_preempted_for_it() -> None:
    busy = sized(6, requests=1)
    async with at_home(busy) as run:
        await asyncio.sleep(10 * HOME_AFTER_S)
        assert there(run) == [OTHER]
        busy.requests = 0
        await asyncio.sleep(2 * HOME_AFTER_S)
        assert there(run) == [HOME]


async def test_where_there_is_room_for_both_both_stay() -> None:
    async with at_home(sized(9), size=3) as run:
        await run.pool.evict(OTHER)
        run.world.script(OTHER, sized(5))
        await run.pool.ensure(OTHER)
        await asyncio.sleep(2 * HOME_AFTER_S)
        assert there(run) == [HOME, OTHER]
        assert run.server(OTHER).generation == 2


async def test_a_call_for_the_server_that_is_about_to_make_room_keeps_it() -> None:
    async with at_home(sized(6, check=2.0)) as run:
        # One check confirms that it is unused; by the next it would be preempted.
        await asyncio.sleep(HOME_AFTER_S + 3)
        assert run.phase(HOME) is Phase.QUEUED
        ensured = await asyncio.wait_for(run.pool.ensure(OTHER), 3)
        assert not ensured.started
        await asyncio.sleep(HOME_AFTER_S - 5)
        assert there(run) == [OTHER]
        await asyncio.sleep(15)
        assert there(run) == [HOME]


async def test_while_another_is_held_it_stays_away() -> None:
    async with at_home(sized(6)) as run:
        hold = run.pool.hold(OTHER)
        await anext(hold)
        await asyncio.sleep(10 * HOME_AFTER_S)
        assert there(run) == [OTHER]
        await hold.aclose()
        await asyncio.sleep(HOME_AFTER_S + 5)
        assert there(run) == [HOME]


async def test_after_a_crash_it_comes_back() -> None:
    async with running(home_model=HOME) as run:
        run.world.script(HOME, Script(dies=30.0))
        await asyncio.sleep(5)
        await run.pool.evict(HOME)
        await run.pool.ensure(HOME)
        run.world.script(HOME, Script())
        await asyncio.sleep(60)
        assert run.phase(HOME) is Phase.READY
        exit_ = run.server(HOME).last_exit
        assert exit_ is not None
        assert exit_.cause is Cause.CRASHED


@pytest.mark.parametrize("target", [HOME, Every.ALL, Every.IDLE])
async def test_an_eviction_stands_until_somebody_asks_for_it(target: str | Every) -> None:
    async with running(home_model=HOME, grace_period=0.0) as run:
        await asyncio.sleep(5)
        await run.pool.evict(target)
        await asyncio.sleep(3600)
        assert run.phase(HOME) is None
        await run.pool.ensure(HOME, keep_alive=0.0)
        await asyncio.sleep(3600)
        assert run.phase(HOME) is Phase.READY


@pytest.mark.parametrize(
    ("step", "script"),
    [
        ("estimate", Script(on_disk=False)),
        ("prepare", Script(raises={"prepare": RuntimeUnavailable("none")})),
        ("spawn", Script(dies=0.5, report=REJECTED)),
        ("spawn", Script(load=NEVER)),
    ],
    ids=["not on disk", "no runtime", "rejected", "too slow"],
)
async def test_one_that_cannot_be_started_is_tried_ever_less_often(
    step: str, script: Script
) -> None:
    async with running() as run:
        run.world.script(HOME, script)
        await run.pool.reload(Catalogue(SETTINGS, home_model=HOME), LIMITS)
        await asyncio.sleep(3600)
        assert 5 <= len(run.world.times(step)) <= 6 + 3600 / MAX_PAUSE_S


async def test_one_that_crashes_as_it_starts_is_tried_ever_less_often() -> None:
    """Each try is as many processes as make a crash loop."""
    async with running() as run:
        run.world.script(HOME, Script(dies=0.5))
        await run.pool.reload(Catalogue(SETTINGS, home_model=HOME), LIMITS)
        await asyncio.sleep(3600)
        most = (6 + 3600 / MAX_PAUSE_S) * LIMITS.crash_limit
        assert LIMITS.crash_limit < len(run.world.times("spawn")) <= most


async def test_one_that_does_not_fit_is_not_queued_all_the_time() -> None:
    """While anything is queued memory is sampled often."""
    pinned = replace(SETTINGS, runtime_model=OTHER, pinned=True)
    async with room() as run:
        run.world.script(HOME, sized(6))
        run.world.script(OTHER, sized(6))
        catalogue = Catalogue(SETTINGS, {OTHER: pinned}, home_model=HOME)
        await run.pool.ensure(OTHER)
        await run.pool.reload(catalogue, limits())
        await asyncio.sleep(3600)
        begun = len(run.world.times("estimate", HOME))
        assert 5 <= begun <= 6 + 3600 / MAX_PAUSE_S
        assert len(run.world.times("sample")) < 40 * begun
        assert there(run) == [OTHER]
        await run.pool.evict(OTHER)
        await asyncio.sleep(5)
        assert there(run) == [HOME], "memory was all that it lacked"
