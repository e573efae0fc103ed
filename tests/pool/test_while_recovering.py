"""Claims about the time in which the service still recovers, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError, Recovering
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase
from tests.pool.running import BUDGET, DEFAULTS, LIMITS, now, running
from tests.world import CRASH, NEVER, Script, outcomes

pytestmark = pytest.mark.looptime


async def test_the_service_begins_without_those_that_are_slow_to_prove_themselves() -> None:
    async with running(start_timeout=120.0) as run:
        script = Script()
        run.world.script("slow", script)
        await asyncio.gather(run.pool.ensure("m"), run.pool.ensure("slow"))
        await run.kill()
        script.load = begins = asyncio.Event()
        begun = now()
        await run.start()
        assert now() == pytest.approx(begun + BUDGET)
        assert run.phase("m") is Phase.READY
        slow = run.server("slow")
        assert (slow.phase, slow.endpoint) == (Phase.STARTING, "")
        call = run.ensure("slow")
        await asyncio.sleep(50)
        assert not call.done()
        begins.set()
        ensured = await call
        assert not ensured.started
        assert ensured.server.generation == 1
        assert run.world.signals("slow") == []


async def test_nothing_is_started_before_the_search_for_orphans_else_it_would_be_one() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.kill()
        run.world.search = found = asyncio.Event()
        beginning = asyncio.create_task(run.start())
        await asyncio.sleep(BUDGET / 2)
        assert run.world.times("ready", "m")
        with pytest.raises(Recovering):
            await run.pool.ensure("new")
        found.set()
        await beginning
        assert (await run.pool.ensure("new")).server.phase is Phase.READY


async def test_neither_a_reload_nor_a_pin_starts_a_process_that_would_look_like_an_orphan() -> None:
    pinned = replace(DEFAULTS, runtime_model="rm", pinned=True)
    async with running(models={"pinned": pinned}) as run:
        script = Script()
        run.world.script("pinned", script)
        await run.pool.ensure("pinned")
        await run.kill()
        script.listens = False
        run.world.search = found = asyncio.Event()
        beginning = asyncio.create_task(run.start())
        await asyncio.sleep(BUDGET / 2)
        preloaded = replace(pinned, pinned=False, preload=True)
        models = {"pinned": pinned, "preloaded": preloaded}
        await run.pool.reload(Catalogue(DEFAULTS, models), LIMITS)
        await asyncio.sleep(BUDGET)
        assert run.world.signals("preloaded") == []
        found.set()
        await beginning
        await asyncio.sleep(30)
        for model in models:
            assert run.phase(model) is Phase.READY
        assert not [c for c in run.changes if c.server.model.startswith("(unknown")]


async def test_no_caller_gets_a_server_that_is_not_adopted_yet() -> None:
    async with running() as run:
        script = Script()
        run.world.script("m", script)
        await run.pool.ensure("m")
        script.adopt = BUDGET + 10.0
        await run.restart()
        assert run.server("m").endpoint == ""
        begun = now()
        assert (await run.pool.ensure("m")).server.generation == 1
        assert now() == pytest.approx(begun + 10.0)


async def test_who_waits_for_one_that_turns_out_to_be_dead_gets_the_next() -> None:
    async with running() as run:
        script = Script()
        run.world.script("m", script, Script())
        await run.pool.ensure("m")
        await run.kill()
        script.adopt = BUDGET + 10.0
        run.world.of("m").end(CRASH)
        await run.start()
        ensured = await run.pool.ensure("m")
        assert ensured.server.generation == 2


async def test_an_eviction_of_a_server_that_is_not_adopted_yet_waits_for_it() -> None:
    async with running() as run:
        script = Script()
        run.world.script("m", script)
        await run.pool.ensure("m")
        script.adopt = BUDGET + 10.0
        await run.restart()
        begun = now()
        removed = await run.pool.evict(Every.ALL)
        assert [each.server.model for each in removed] == ["m"]
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(begun + 10.0))]


async def test_one_that_never_proves_itself_again_is_stopped_at_the_start_limit() -> None:
    async with running(start_timeout=120.0) as run:
        script = Script()
        run.world.script("m", script, Script())
        await run.pool.ensure("m")
        await run.kill()
        script.load = NEVER
        await run.start()
        await asyncio.sleep(120)
        failed = run.server("m")
        assert failed.last_exit is not None
        assert failed.last_exit.cause is Cause.START_TIMEOUT


async def test_an_adoption_that_breaks_goes_by_the_record() -> None:
    async with running() as run:
        script = Script()
        run.world.script("m", script)
        before = (await run.pool.ensure("m")).server
        await run.kill()
        script.raises = {"adopt": ZeroDivisionError("secret")}
        await run.start()
        assert run.phase("m") is Phase.READY
        assert run.server("m").identity == before.identity


async def test_an_adoption_that_breaks_without_a_record_is_reported() -> None:
    async with running() as run:
        run.world.default = Script(raises={"adopt": ZeroDivisionError("secret")})
        run.world.script("m", Script(spawn=5.0), Script())
        run.ask()
        await asyncio.sleep(1)
        await run.restart()
        assert run.phase("m") is Phase.FAILED
        with pytest.raises(PoolError, match="Adopt"):
            await run.pool.ensure("m")
        await asyncio.sleep(LIMITS.failure_memory)
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_calls_before_the_end_of_the_recovery_are_asked_to_retry() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.kill()
        run.world.records.loading = 2.0
        run.world.of("m").script.adopt = 1.0
        starting = asyncio.create_task(run.start())
        await asyncio.sleep(2.5)
        for call in (run.pool.ensure("m"), run.pool.ensure("new"), run.pool.evict("m")):
            assert isinstance((await outcomes(call))[0], Recovering)
        with pytest.raises(Recovering):
            run.pool.page(None, 10)
        with pytest.raises(Recovering):
            _ = run.pool.history
        await starting
        assert not (await run.pool.ensure("m")).started


async def test_a_recovery_that_has_nothing_to_find_ends_at_once() -> None:
    async with running() as run:
        begun = now()
        await run.restart()
        assert now() == begun
        assert run.pool.page(None, 10) == []


async def test_the_service_can_die_again_and_again_while_it_recovers() -> None:
    async with running() as run:
        script = Script(adopt=1.0)
        run.world.script("m", script)
        before = (await run.pool.ensure("m")).server
        for pause in (0.0, 0.5, 1.0):
            await run.kill()
            starting = asyncio.create_task(run.start())
            await asyncio.sleep(pause)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await run.restart()
        server = run.server("m")
        assert (server.identity, server.ready_at) == (before.identity, before.ready_at)


async def test_who_asks_before_that_is_known_gets_the_next_generation() -> None:
    async with running() as run:
        run.world.default = Script(adopt=BUDGET + 10.0)
        run.world.script("m", Script(spawn=5.0), Script())
        run.ask()
        await asyncio.sleep(1)
        await run.restart()
        assert run.phase("m") is Phase.SPAWNING
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_an_eviction_before_a_spawn_is_found_ends_it_as_soon_as_it_is() -> None:
    async with running() as run:
        run.world.script("m", Script(spawn=5.0, forks=True, adopt=BUDGET + 10.0))
        run.ask()
        await asyncio.sleep(1)
        await run.restart()
        removed = await run.pool.evict("m")
        assert [each.server.model for each in removed] == ["m"]
        assert [name for name, _ in run.world.signals("m")] == ["SIGTERM"]
        assert run.world.living == []
