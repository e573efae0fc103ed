"""Claims about the queue: its order, that every model starts, its details, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.admission import STARVATION_LIMIT_S
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolFull, QueueFull
from pool_service.core.server import Phase
from pool_service.core.types import FOREVER, Settings
from tests.pool.capacity import fill, limits, queued, room, sized, there, told
from tests.pool.running import DEFAULTS, Running, now

pytestmark = pytest.mark.looptime


async def keep_busy(run: Running, *models: str, pause: float = 0.3) -> None:
    """Somebody asks for these all the time."""
    while True:
        await asyncio.gather(*map(run.pool.ensure, models))
        await asyncio.sleep(pause)


async def test_a_queued_model_starts_though_the_others_are_asked_for_all_the_time() -> None:
    async with room(grace_period=3.0) as run:
        await fill(run, "a", "b")
        asking = [asyncio.create_task(keep_busy(run, model)) for model in "ab"]
        await asyncio.sleep(20)
        began = now()
        await fill(run, "c")
        assert now() - began < 3.0 + 1.0 + 1.0
        for each in asking:
            each.cancel()


async def test_a_queued_model_starts_though_the_others_are_busy_again_and_again() -> None:
    """Whoever asks for the busy one after PATIENCE waits behind who waited so long."""
    async with room() as run:
        await fill(run, "a", size=8)
        script = run.world.of("a").script
        served: list[float] = []

        async def work(until: float) -> None:
            while now() < until:
                await run.pool.ensure("a")
                served.append(now())
                script.requests = (script.requests or 0) + 1
                await asyncio.sleep(2.5)
                script.requests -= 1

        working = asyncio.create_task(work(40))
        await asyncio.sleep(1)
        overlapping = asyncio.create_task(work(40))
        began = now()
        await fill(run, "b", size=8)
        assert now() - began < STARVATION_LIMIT_S + 2.5 + 3.0
        assert len([at for at in served if at < began + STARVATION_LIMIT_S]) >= 8
        await asyncio.gather(working, overlapping)


async def test_two_models_that_are_asked_for_all_the_time_do_not_chase_each_other_away() -> None:
    async with room(grace_period=10.0) as run:
        for model in "ab":
            run.world.script(model, sized(8))
        asking = [asyncio.create_task(keep_busy(run, model)) for model in "ab"]
        await asyncio.sleep(120)
        for each in asking:
            each.cancel()
        loads = {model: len(run.world.times("spawn", model)) for model in "ab"}
        assert sum(loads.values()) <= 120 / 10 + 1
        assert min(loads.values()) >= 4


async def test_who_waits_sees_its_place_and_what_it_waits_for() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        for model in "bcd":
            run.world.script(model, sized(8))
            run.ask(model)
            await asyncio.sleep(1)
        assert queued(run) == ["b", "c", "d"]
        assert "'a' to be less busy" in run.server("b").detail
        await asyncio.sleep(STARVATION_LIMIT_S)
        assert run.server("b").detail == "waits for 'a' to be unused"
        assert [run.server(model).detail for model in "cd"] == ["waits for its turn"] * 2
        run.world.of("a").script.requests = 0
        await asyncio.sleep(10)
        assert [s.position for s in told(run, "d") if s.phase is Phase.QUEUED][-1] == 1
        positions = [s.position for s in told(run, "d") if s.phase is Phase.QUEUED and s.position]
        assert positions == sorted(positions, reverse=True)


async def test_waiting_without_any_news_is_reported_once() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("b", sized(8))
        run.ask("b")
        await asyncio.sleep(STARVATION_LIMIT_S + 3)
        revision = run.pool.history.revision
        await asyncio.sleep(200)
        assert run.pool.history.revision == revision
        run.world.of("a").script.requests = 0


async def test_the_queue_has_a_limit_and_the_next_model_is_refused_with_a_retry_delay() -> None:
    async with room(limits=limits(queue_limit=2)) as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.default = sized(8)
        for model in "bc":
            run.ask(model)
        await asyncio.sleep(1)
        with pytest.raises(QueueFull) as caught:
            await run.pool.ensure("d")
        assert caught.value.retry_after > 0
        run.ask("c")
        await asyncio.sleep(1)
        assert queued(run) == ["b", "c"]


async def test_a_caller_that_waited_in_vain_gets_the_reason_and_a_retry_delay() -> None:
    async with room(limits=limits(queue_timeout=60.0)) as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("b", sized(8))
        began = now()
        with pytest.raises(PoolFull, match="it waits for 'a' to be unused") as caught:
            await run.pool.ensure("b")
        assert now() - began == pytest.approx(60.0)
        assert caught.value.retry_after > 0
        assert run.phase("b") is None


async def test_no_caller_gets_a_timeout_for_the_time_that_the_machine_slept() -> None:
    async with room(limits=limits(queue_timeout=60.0)) as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(10)
        run.world.clock.jump(3600.0)
        await asyncio.sleep(40)
        assert not call.done()
        run.world.of("a").script.requests = 0
        await call


async def test_who_leaves_gives_its_place_to_the_next() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.default = sized(8)
        first, second = run.ensure("b"), run.ensure("c")
        await asyncio.sleep(1)
        assert run.server("c").position == 2
        first.cancel()
        await asyncio.sleep(0)
        assert run.phase("b") is None
        assert run.server("c").position == 1
        run.world.of("a").script.requests = 0
        await second
        assert run.world.times("prepare", "b") == []


async def test_a_small_model_may_pass_one_that_others_at_work_hold_up() -> None:
    async with room() as run:
        await fill(run, "a", size=7)
        run.world.of("a").script.requests = 1
        run.world.script("big", sized(8))
        call = run.ensure("big")
        await asyncio.sleep(1)
        began = now()
        await fill(run, "small", size=3)
        assert now() - began < 2.0
        call.cancel()


async def test_a_small_model_does_not_pass_one_for_which_others_are_about_to_go() -> None:
    async with room() as run:
        run.world.script("a", sized(7, clean_up=20.0))
        await run.pool.ensure("a")
        run.world.script("big", sized(8))
        call = run.ensure("big")
        await asyncio.sleep(1)
        run.world.script("small", sized(3))
        run.ask("small")
        await call
        assert run.world.times("prepare", "small") == [] or (
            run.world.times("prepare", "small")[0].at > run.world.times("prepare", "big")[0].at
        )


async def test_small_models_that_come_all_the_time_do_not_starve_a_large_one() -> None:
    """At each moment one of them is about to be READY, and none of those may be stopped."""
    async with room() as run:
        run.world.default = sized(3, load=2.0)
        run.world.script("big", sized(10))

        async def stream() -> None:
            for i in range(60):
                run.ask(f"small{i:05}")
                await asyncio.sleep(0.7)

        coming = asyncio.create_task(stream())
        await asyncio.sleep(10)
        began = now()
        await run.pool.ensure("big")
        assert now() - began < STARVATION_LIMIT_S + 5.0
        await coming


async def test_starts_get_a_slot_in_the_order_of_the_queue() -> None:
    async with room(limits=replace(limits(), max_starts=1, memory_budget=FOREVER)) as run:
        run.world.default = sized(1, load=5.0)
        calls = [run.ensure(model) for model in "abc"]
        await asyncio.sleep(1)
        assert run.server("b").detail == "waits for others to start, 1 at a time"
        assert queued(run) == ["b", "c"]
        await asyncio.gather(*calls)
        assert [call.model for call in run.world.times("spawn")] == ["a", "b", "c"]
        assert there(run) == ["a", "b", "c"]


async def test_a_long_hold_delays_no_start_that_fits() -> None:
    async with room() as run:
        run.world.script("held", sized(4))
        held = run.pool.hold("held")
        assert (await anext(held)).phase is Phase.QUEUED
        await asyncio.sleep(2)
        run.world.script("big", sized(8))
        call = run.ensure("big")
        await asyncio.sleep(60)
        assert "'held' to go, which the pool does not preempt" in run.server("big").detail
        began = now()
        await fill(run, "small", size=3)
        assert now() - began < 2.0
        call.cancel()
        await held.aclose()


async def reload(run: Running, **changed: Settings) -> None:
    """The configuration says something else of these models, and the rest as before."""
    defaults = replace(DEFAULTS, grace_period=0.0)
    await run.pool.reload(Catalogue(defaults, changed), limits())


@pytest.mark.parametrize("changed", [["d"], ["b", "c", "d"]])
async def test_who_waits_keeps_its_place_over_a_reload_that_changes_what_is_said_of_it(
    changed: list[str],
) -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.default = sized(8)
        for model in "dbc":
            run.ask(model)
            await asyncio.sleep(1)
        await reload(run, **dict.fromkeys(changed, Settings("rm", config_hash="another")))
        await asyncio.sleep(1)
        assert queued(run) == ["d", "b", "c"]
        run.world.of("a").script.requests = 0


async def test_who_has_waited_long_need_not_wait_as_long_again_after_a_reload() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("b", sized(8))
        run.ask("b")
        await asyncio.sleep(STARVATION_LIMIT_S - 1)
        assert run.server("b").detail == "waits for 'a' to be less busy"
        await reload(run, b=Settings("rm", config_hash="another"))
        await asyncio.sleep(3)
        assert run.server("b").detail == "waits for 'a' to be unused"
        run.world.of("a").script.requests = 0
