"""Another configuration, while servers run: by difference."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ModelUnknown, StartFailed
from pool_service.core.results import Reloaded
from pool_service.core.server import Phase, StopSignal
from pool_service.core.types import FOREVER, Settings
from tests.pool.holds import holding
from tests.pool.running import DEFAULTS, LIMITS, Running, running
from tests.world import KILLED, Script

SHORT = replace(DEFAULTS, grace_period=0.0)
BUSY = Script(requests=1)


def entry(**changed: object) -> Settings:
    return replace(SHORT, runtime_model="rm", **changed)  # type: ignore[arg-type]


async def reload(run: Running, *, only_listed: bool = False, **models: Settings) -> Reloaded:
    return await run.pool.reload(Catalogue(SHORT, models, {}, only_listed), LIMITS)


pytestmark = pytest.mark.looptime


async def test_what_is_the_same_goes_on() -> None:
    async with running(models={"m": entry()}) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(1)
        before = run.server("m")
        assert await reload(run, m=entry()) == Reloaded()
        await asyncio.sleep(10)
        assert run.server("m") == before


async def test_another_keep_alive_counts_at_once_and_stops_nothing() -> None:
    async with running(models={"m": entry()}) as run:
        await run.pool.ensure("m")
        assert await reload(run, m=entry(keep_alive=50.0)) == Reloaded(updated=("m",))
        await asyncio.sleep(49)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(2)
        assert run.phase("m") is None


async def test_another_config_hash_replaces_an_unused_server() -> None:
    async with running(models={"m": entry(keep_alive=FOREVER)}) as run:
        await run.pool.ensure("m")
        told = await reload(run, m=entry(keep_alive=FOREVER, config_hash="other"))
        assert told == Reloaded(replaced=("m",))
        await asyncio.sleep(5)
        assert run.phase("m") is None
        assert (await run.pool.ensure("m")).server.settings.config_hash == "other"


async def test_what_is_busy_is_replaced_only_when_it_is_unused() -> None:
    async with running(models={"m": entry()}) as run:
        run.world.script("m", BUSY)
        await run.pool.ensure("m")
        await reload(run, m=entry(config_hash="other"))
        await asyncio.sleep(100)
        assert run.phase("m") is Phase.READY
        assert run.server("m").outdated
        run.world.of("m").script.requests = 0
        await asyncio.sleep(DEFAULTS.keep_alive)
        assert run.phase("m") is None


async def test_what_is_no_longer_listed_goes_when_unused_and_is_refused() -> None:
    async with running(models={"m": entry()}, only_listed=True) as run:
        await run.pool.ensure("m")
        assert await reload(run, only_listed=True) == Reloaded(removed=("m",))
        with pytest.raises(ModelUnknown):
            await run.pool.ensure("m")
        await asyncio.sleep(5)
        assert run.phase("m") is None


async def test_the_waiters_of_a_model_that_is_no_longer_listed_get_that_reason() -> None:
    async with running(models={"m": entry()}, only_listed=True, limits=LIMITS) as run:
        run.world.script("m", Script(load=100.0))
        call = run.ensure("m")
        await asyncio.sleep(1)
        await reload(run, only_listed=True)
        with pytest.raises(ModelUnknown):
            await call


async def test_taking_a_change_back_before_it_took_place_keeps_the_server() -> None:
    async with running(models={"m": entry()}) as run:
        run.world.script("m", BUSY)
        before = (await run.pool.ensure("m")).server
        await reload(run, m=entry(config_hash="other"))
        await reload(run, m=entry())
        run.world.of("m").script.requests = 0
        await asyncio.sleep(100)
        assert run.server("m").generation == before.generation
        assert not run.server("m").outdated


async def test_a_model_that_is_newly_preloaded_starts() -> None:
    async with running() as run:
        await reload(run, m=entry(preload=True))
        await asyncio.sleep(2)
        assert run.phase("m") is Phase.READY


async def test_a_pool_that_ends_preloads_nothing() -> None:
    async with running() as run:
        run.world.script("busy", Script(ends_on={StopSignal.TERMINATE: 5.0}))
        await run.pool.ensure("busy")
        ending = asyncio.create_task(run.pool.shutdown())
        await asyncio.sleep(1)
        # As where somebody edits the file, sends SIGHUP, and stops the service at once.
        await reload(run, m=entry(preload=True))
        await ending
        assert run.phase("m") is None
        assert len(run.world.times("spawn")) == 1


async def test_what_failed_may_be_tried_at_once_with_another_configuration() -> None:
    async with running(models={"m": entry()}) as run:
        run.world.script("m", Script(dies=0.5, load=1.0), Script())
        with pytest.raises(StartFailed):
            await run.pool.ensure("m")
        await reload(run, m=entry(config_hash="mended"))
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_what_is_backed_off_and_no_longer_listed_is_given_up() -> None:
    async with running(models={"m": entry()}, only_listed=True) as run:
        run.world.script("m", Script(dies=0.5, load=1.0, report=KILLED))
        call = run.ensure("m")
        await asyncio.sleep(0.6)
        assert run.phase("m") is Phase.BACKING_OFF
        await reload(run, only_listed=True)
        with pytest.raises(ModelUnknown):
            await call
        assert run.phase("m") is Phase.FAILED
        await asyncio.sleep(5)
        assert len(run.world.times("spawn")) == 1


async def test_what_is_held_and_no_longer_listed_does_not_come_again() -> None:
    async with running(models={"m": entry()}, only_listed=True) as run:
        async with holding(run, "m") as held:
            await asyncio.sleep(2)
            await reload(run, only_listed=True)
            await asyncio.sleep(100)
            assert run.phase("m") is Phase.READY, "its holder keeps what it has"
            run.world.of("m").end()
            await asyncio.sleep(10)
            assert isinstance(held.end, ModelUnknown)
        assert len(run.world.times("spawn")) == 1


@pytest.mark.parametrize("named", ["rm", ""])
async def test_who_waits_gets_what_it_named_else_what_is_configured_by_now(named: str) -> None:
    async with running(models={"m": entry()}) as run:
        run.world.script("m", Script(estimate=5.0))
        call = run.ensure("m", runtime_model=named)
        await asyncio.sleep(1)
        await reload(run, m=replace(SHORT, runtime_model="other"))
        server = (await call).server
        assert server.settings.runtime_model == (named or "other")
        assert run.world.times("spawn")[0].detail == (named or "other")
