"""Claims about holds: what they keep, what they receive, how they end, in virtual time."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pool_service.core.errors import (
    CrashLoop,
    Evicted,
    ModelRejected,
    PoolFull,
    ServerInUse,
    ShuttingDown,
)
from pool_service.core.results import Every
from pool_service.core.server import Phase, StopSignal
from tests.pool.capacity import fill, limits, room, sized
from tests.pool.holds import Holder, holding
from tests.pool.running import now, running
from tests.world import NEVER, REJECTED, Script, settled

pytestmark = pytest.mark.looptime


async def test_who_holds_sees_its_place_then_the_load_and_then_the_endpoint() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("m", sized(8, load=4.0))
        async with holding(run) as holder:
            await asyncio.sleep(1)
            assert holder.told[-1].position == 1
            run.world.of("a").script.requests = 0
            await asyncio.sleep(60)
            assert holder.phases[0] is Phase.QUEUED
            assert holder.phases[-2:] == [Phase.STARTING, Phase.READY]
            assert holder.told[-1].endpoint
            assert holder.told[-1].holds == 1
            shares = [one.progress for one in holder.told if one.phase is Phase.STARTING]
            assert len({share for share in shares if share}) > 2


async def test_a_held_server_is_kept_from_idleness() -> None:
    async with running(keep_alive=0.0, grace_period=0.0) as run:
        async with holding(run) as holder:
            await asyncio.sleep(1e6)
            assert holder.is_ready
            assert run.world.times("spawn") == run.world.times("spawn")[:1]
        await asyncio.sleep(0.01)
        assert run.phase("m") is None


async def test_a_held_server_is_not_evicted_for_others() -> None:
    async with room(limits=limits(queue_timeout=50.0)) as run:
        run.world.script("m", sized(8))
        async with holding(run) as holder:
            await asyncio.sleep(2)
            run.world.script("b", sized(8))
            with pytest.raises(PoolFull, match="'m' to go, which the pool does not preempt"):
                await run.pool.ensure("b")
            assert holder.is_ready


async def test_the_end_of_a_hold_lets_the_next_in() -> None:
    async with room() as run:
        run.world.script("m", sized(8))
        run.world.script("b", sized(8))
        async with holding(run):
            await asyncio.sleep(2)
            call = run.ensure("b")
            await asyncio.sleep(100)
            assert not call.done()
        began = now()
        await call
        assert now() - began < 3.0


async def test_a_server_whose_last_hold_ended_can_be_evicted_at_once() -> None:
    """Its residency is for callers who were just told of it, and nobody was."""
    async with room(grace_period=10.0) as run:
        run.world.script("m", sized(8))
        run.world.script("b", sized(8))
        async with holding(run):
            await asyncio.sleep(100)
            call = run.ensure("b")
            await asyncio.sleep(100)
            assert not call.done()
        began = now()
        await call
        assert now() - began < 3.0


async def test_a_former_holder_finds_the_server_until_its_grace_period_is_over() -> None:
    async with room(grace_period=10.0) as run:
        run.world.script("m", sized(8))
        run.world.script("b", sized(8))
        async with holding(run):
            await asyncio.sleep(100)
            await run.pool.ensure("m")
            told_at = now()
            run.ask("b")
            await asyncio.sleep(4)
        await asyncio.sleep(20)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(told_at + 10.0))]


async def test_an_eviction_without_force_gets_the_holders() -> None:
    async with (
        running() as run,
        holding(run, holder="planner"),
        holding(run, holder="chat"),
        holding(run),
    ):
        await asyncio.sleep(2)
        with pytest.raises(ServerInUse, match=r"is held by 3 \(chat, planner\)") as caught:
            await run.pool.evict("m")
        assert sorted(caught.value.holders) == ["", "chat", "planner"]
        assert await run.pool.evict(Every.ALL) == ()
        assert await run.pool.evict(Every.IDLE) == ()
        assert run.world.signals("m") == []


async def test_an_eviction_by_force_ends_all_holds() -> None:
    async with running() as run, holding(run) as one, holding(run) as another:
        await asyncio.sleep(2)
        await run.pool.evict("m", force=True)
        assert isinstance(one.end, Evicted)
        assert isinstance(another.end, Evicted)
        await asyncio.sleep(100)
        assert run.phase("m") is None


async def test_holds_are_counted_and_the_last_that_ends_lets_it_go() -> None:
    async with running(keep_alive=0.0, grace_period=0.0) as run:
        async with holding(run):
            async with holding(run):
                await asyncio.sleep(2)
                assert run.server("m").holds == 2
            assert run.server("m").holds == 1
            await asyncio.sleep(100)
            assert run.phase("m") is Phase.READY
        await asyncio.sleep(0.01)
        assert run.phase("m") is None


async def test_the_keep_alive_counts_from_the_end_of_a_hold() -> None:
    async with running(keep_alive=300.0, grace_period=10.0) as run:
        async with holding(run):
            await asyncio.sleep(1000)
        await asyncio.sleep(280)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(25)
        assert run.phase("m") is None


async def test_what_is_at_work_when_its_hold_ends_is_not_stopped() -> None:
    async with running(keep_alive=0.0, grace_period=0.0) as run:
        run.world.script("m", Script(requests=1))
        async with holding(run):
            await asyncio.sleep(2)
        await asyncio.sleep(100)
        assert run.phase("m") is Phase.READY


async def test_a_hold_that_ends_while_it_is_queued_gives_the_start_up() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("m", sized(8))
        async with holding(run):
            await asyncio.sleep(1)
            assert run.phase("m") is Phase.QUEUED
        assert run.phase("m") is None


async def test_a_hold_that_ends_while_it_loads_leaves_a_server_that_goes_when_unused() -> None:
    async with running(keep_alive=60.0) as run:
        run.world.script("m", Script(load=20.0))
        async with holding(run):
            await asyncio.sleep(5)
        assert run.phase("m") is Phase.STARTING
        assert run.server("m").holds == 0
        await asyncio.sleep(16)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(61)
        assert run.phase("m") is None


async def test_a_held_server_that_dies_comes_again_with_a_new_endpoint() -> None:
    async with running() as run, holding(run) as holder:
        await asyncio.sleep(2)
        before = holder.told[-1]
        run.world.of("m").end()
        await asyncio.sleep(5)
        assert holder.is_ready
        assert holder.told[-1].generation == before.generation + 1
        assert holder.told[-1].endpoint != before.endpoint


async def test_a_held_server_that_dies_too_often_ends_the_hold() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=2.0))
        async with holding(run) as holder:
            await asyncio.sleep(200)
            assert isinstance(holder.end, CrashLoop)
        assert run.server("m").holds == 0


async def test_a_held_model_that_the_runtime_refuses_ends_the_hold() -> None:
    async with running() as run:
        run.world.script("m", Script(load=NEVER, dies=1.0, report=REJECTED))
        async with holding(run) as holder:
            await asyncio.sleep(2)
            assert isinstance(holder.end, ModelRejected)


async def test_a_hold_without_capacity_in_time_ends() -> None:
    async with room(limits=limits(queue_timeout=30.0)) as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("m", sized(8))
        async with holding(run) as holder:
            await asyncio.sleep(31)
            assert isinstance(holder.end, PoolFull)
        assert run.phase("m") is None


async def test_a_shutdown_ends_the_holds_and_drains_their_servers() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 5.0}))
        async with holding(run) as holder:
            await asyncio.sleep(2)
            ending = asyncio.create_task(run.pool.shutdown())
            await asyncio.sleep(0.01)
            assert isinstance(holder.end, ShuttingDown)
            await ending


async def test_a_service_that_leaves_its_servers_ends_the_holds() -> None:
    async with running() as run, holding(run) as holder:
        await asyncio.sleep(2)
        await run.pool.leave()
        await asyncio.sleep(0)
        assert isinstance(holder.end, ShuttingDown)
        assert len(run.world.living) == 1
        await run.start()


async def test_a_slow_reader_gets_the_newest_state_and_nothing_of_what_is_past() -> None:
    async with running() as run:
        stream = run.pool.hold("m")
        first = await anext(stream)
        await asyncio.sleep(100)
        second = await anext(stream)
        assert (first.phase, second.phase) == (Phase.QUEUED, Phase.READY)
        run.world.of("m").end()
        await asyncio.sleep(100)
        assert (await anext(stream)).generation == 2
        await stream.aclose()


async def test_a_hold_of_a_ready_model_gets_the_server_at_once() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        began = now()
        async with holding(run) as holder:
            assert holder.is_ready
            assert holder.told[-1].holds == 1
            assert now() == began


async def test_a_hold_of_a_preempted_server_keeps_it() -> None:
    async with room() as run:
        run.world.script("m", sized(8, check=2.0))
        await run.pool.ensure("m")
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(1)
        async with holding(run) as holder:
            await asyncio.sleep(60)
            assert holder.is_ready
            assert holder.told[-1].generation == 1
            assert not call.done()
        call.cancel()


async def test_a_hold_of_what_is_going_waits_for_the_next_generation() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 5.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        async with holding(run) as holder:
            await asyncio.sleep(60)
            assert holder.told[-1].generation == 2
        await evicting


async def test_a_reader_that_is_given_up_between_two_states_lets_go_at_once() -> None:
    async with running(keep_alive=0.0, grace_period=0.0) as run:
        holder = Holder()
        task = asyncio.create_task(holder.follow(run, "m"))
        await asyncio.sleep(60)
        task.cancel()
        await settled(task.done)
        assert run.phase("m") is not None
        assert run.server("m").holds == 0
        await asyncio.sleep(0.01)
        assert run.phase("m") is None


async def test_who_holds_and_who_ensures_share_one_start() -> None:
    async with running() as run, holding(run):
        ensured = await run.pool.ensure("m")
        assert not ensured.started
        await asyncio.sleep(60)
        assert len(run.world.times("spawn")) == 1


async def test_a_holder_gets_one_message_however_many_others_come_and_go() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        async with holding(run) as first, AsyncExitStack() as others:
            for _ in range(100):
                await others.enter_async_context(holding(run))
            await others.aclose()
            assert run.server("m").holds == 1
            assert len(first.told) == 1
            run.world.of("m").end()
            await asyncio.sleep(5)
            assert first.is_ready
            assert first.told[-1].generation == 2
