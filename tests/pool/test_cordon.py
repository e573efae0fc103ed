"""Claims about the moments between the last check of a server and its SIGTERM."""

import asyncio

import pytest

from pool_service.core.errors import RuntimeModelConflict, ServerInUse
from pool_service.core.results import Every
from pool_service.core.server import Phase
from tests.pool.running import now, running
from tests.world import NEVER, Script, outcomes

pytestmark = pytest.mark.looptime


async def test_a_server_is_checked_twice_before_it_is_stopped() -> None:
    async with running() as run:
        run.world.script("m", Script(check=2.0))
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert [call.at for call in run.world.times("check")] == pytest.approx([1.0, 3.0])
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(5.0))]


async def test_a_use_between_the_checks_keeps_an_idle_server() -> None:
    async with running(keep_alive=300.0) as run:
        script = Script(check=2.0)
        run.world.script("m", script)
        await run.pool.ensure("m")
        await asyncio.sleep(303)
        assert len(run.world.times("check")) == 2
        script.requests = 1
        await asyncio.sleep(100)
        assert run.phase("m") is Phase.READY
        assert run.world.signals("m") == []


async def test_a_use_between_the_checks_refuses_an_eviction() -> None:
    async with running() as run:
        script = Script(check=2.0)
        run.world.script("m", script)
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(3)
        script.requests = 1
        assert isinstance((await outcomes(evicting))[0], ServerInUse)
        assert run.phase("m") is Phase.READY


async def test_an_ensure_between_the_checks_keeps_an_idle_server() -> None:
    async with running(keep_alive=300.0) as run:
        run.world.script("m", Script(check=2.0))
        await run.pool.ensure("m")
        await asyncio.sleep(304)
        assert len(run.world.times("check")) == 2
        begun = now()
        assert not (await run.pool.ensure("m")).started
        assert now() == begun
        await asyncio.sleep(299)
        assert run.phase("m") is Phase.READY


async def test_one_that_is_being_evicted_is_not_given_at_once() -> None:
    async with running() as run:
        run.world.script("m", Script(check=0.01))
        await run.pool.ensure("m")
        assert run.pool.at_once("m") is not None
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(0.015)
        assert run.pool.at_once("m") is None
        await evicting


async def test_an_ensure_of_one_that_is_being_evicted_waits_for_the_next_generation() -> None:
    async with running() as run:
        run.world.script("m", Script(check=2.0))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(3)
        call = run.ensure()
        assert len(await evicting) == 1
        ensured = await call
        assert (ensured.started, ensured.server.generation) == (True, 2)


async def test_an_ensure_of_one_that_stays_after_all_gets_it() -> None:
    async with running(keep_alive=300.0) as run:
        script = Script(check=2.0)
        run.world.script("m", script)
        await run.pool.ensure("m", keep_alive=50.0)
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(3)
        calls = [run.ensure(), run.ensure(keep_alive=100.0)]
        await asyncio.sleep(0)
        assert not calls[0].done()
        script.requests = 1
        answers = await asyncio.gather(*calls)
        assert [(each.started, each.server.generation) for each in answers] == [(False, 1)] * 2
        assert run.server("m").keep_alive == 100.0
        assert run.server("m").last_used_at == now()
        assert isinstance((await outcomes(evicting))[0], ServerInUse)


async def test_who_named_no_runtime_model_gets_the_one_that_stays() -> None:
    async with running() as run:
        script = Script(check=2.0)
        run.world.script("m", script)
        await run.pool.ensure("m", "org/one")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(3)
        call = run.ensure()
        await asyncio.sleep(0)
        script.requests = 1
        assert (await call).server.settings.runtime_model == "org/one"
        await outcomes(evicting)


async def test_who_named_another_runtime_model_is_refused_by_the_one_that_stays() -> None:
    async with running() as run:
        script = Script(check=2.0)
        run.world.script("m", script)
        await run.pool.ensure("m", "org/one")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(3)
        call = run.ensure(runtime_model="org/two")
        await asyncio.sleep(0)
        script.requests = 1
        assert isinstance((await outcomes(call))[0], RuntimeModelConflict)
        await outcomes(evicting)


async def test_a_caller_that_got_it_just_before_the_cordon_is_seen_by_the_second_check() -> None:
    async with running(keep_alive=300.0) as run:
        script = Script(check=2.0)
        run.world.script("m", script)
        await run.pool.ensure("m")
        await asyncio.sleep(303.5)
        assert len(run.world.times("check")) == 2
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(0)
        assert len(await evicting) == 1
        looks = [call.at for call in run.world.times("check")]
        assert len([at for at in looks if at > 304.0]) >= 1
        assert run.world.signals("m")[0][1] >= looks[-1] + 2.0


async def test_a_crash_between_the_checks_answers_all_callers() -> None:
    async with running() as run:
        run.world.script("m", Script(check=2.0), Script())
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(3)
        call = run.ensure()
        await asyncio.sleep(0)
        run.world.of("m").end()
        assert len(await evicting) == 1
        assert (await call).server.generation == 2


async def test_force_overtakes_the_checks() -> None:
    async with running() as run:
        run.world.script("m", Script(check=NEVER))
        await run.pool.ensure("m")
        gentle = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        both = await asyncio.gather(gentle, run.pool.evict(Every.ALL, force=True))
        assert [[each.server.model for each in removed] for removed in both] == [["m"], ["m"]]
