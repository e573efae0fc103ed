"""Claims about a machine that others make short of memory: unused servers are evicted first."""

import asyncio

import pytest

from pool_service.core.errors import PoolFull
from pool_service.core.sampler import CALM_S, FAST_PAUSE_S, FRESH_S
from pool_service.core.server import Cause, Phase
from tests.pool.capacity import fill, limits, queued, room, sized
from tests.pool.running import Running, now

pytestmark = pytest.mark.looptime

SHORT = "waits for the machine, which is short of memory"


def press(run: Running, *, critical: bool) -> None:
    run.world.pressured, run.world.critical = True, critical


def ease(run: Running) -> None:
    run.world.pressured = run.world.critical = False


async def busy(run: Running, model: str) -> None:
    """It is READY, and works for as long as it runs."""
    run.world.script(model, sized(1, requests=1))
    await run.pool.ensure(model)
    await asyncio.sleep(2)


@pytest.mark.parametrize("critical", [False, True])
async def test_what_is_unused_goes_for_what_is_asked_for(critical: bool) -> None:
    async with room(limits=limits(queue_timeout=60.0), keep_alive=300.0) as run:
        await fill(run, "a", size=1)
        await asyncio.sleep(2)
        press(run, critical=critical)
        begun = now()
        await run.pool.ensure("m")
        assert now() - begun < CALM_S + 5
        assert run.phase("a") is None
        gone = [change.server for change in run.changes if change.removed]
        assert gone[0].last_exit is not None
        assert gone[0].last_exit.cause is Cause.PREEMPTED


@pytest.mark.parametrize("critical", [False, True])
async def test_where_nothing_runs_one_start_is_allowed(critical: bool) -> None:
    async with room() as run:
        press(run, critical=critical)
        begun = now()
        await run.pool.ensure("m")
        assert now() - begun < 3


async def test_a_warning_alone_does_not_hinder_a_start_beside_what_is_busy() -> None:
    async with room() as run:
        await busy(run, "a")
        press(run, critical=False)
        await asyncio.wait_for(run.ensure("m"), 5)
        assert run.phase("a") is Phase.READY
        run.world.of("a").script.requests = 0


async def test_nothing_starts_beside_what_is_busy_while_it_is_critical_and_a_while_after() -> None:
    async with room(limits=limits(queue_timeout=1000.0)) as run:
        await busy(run, "a")
        press(run, critical=True)
        call = run.ensure("m")
        await asyncio.sleep(20)
        assert run.server("m").detail == SHORT
        ease(run)
        calm_since = now()
        await call
        started = run.world.times("spawn", "m")[0].at
        assert CALM_S - FAST_PAUSE_S <= started - calm_since <= CALM_S + FRESH_S
        run.world.of("a").script.requests = 0


async def test_a_relapse_is_waited_out_from_its_end() -> None:
    async with room(limits=limits(queue_timeout=1000.0)) as run:
        await busy(run, "a")
        press(run, critical=True)
        call = run.ensure("m")
        for is_short in (False, True, False, True):
            await asyncio.sleep(CALM_S / 2)
            run.world.pressured = run.world.critical = is_short
        await asyncio.sleep(1)
        ease(run)
        assert queued(run) == ["m"]
        await call
        run.world.of("a").script.requests = 0


async def test_ready_servers_are_handed_out_and_other_waiters_get_the_reason() -> None:
    async with room(limits=limits(queue_timeout=5.0)) as run:
        await busy(run, "a")
        press(run, critical=True)
        with pytest.raises(PoolFull) as caught:
            await run.pool.ensure("m")
        assert "short of memory" in str(caught.value)
        assert caught.value.retry_after > 0
        assert not (await run.pool.ensure("a")).started
        run.world.of("a").script.requests = 0


async def test_two_models_that_are_asked_for_in_turn_take_their_time_over_it() -> None:
    """Each start evicts the other, but never more often than the machine has had its pause."""
    async with room(limits=limits(queue_timeout=100.0)) as run:
        press(run, critical=True)
        end = now() + 100
        while now() < end:
            await run.pool.ensure("a")
            await run.pool.ensure("b")
        assert len(run.world.times("spawn")) <= 2 + 100 / CALM_S
