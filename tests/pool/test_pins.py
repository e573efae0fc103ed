"""Pins by callers, in virtual time: what stays, what goes, who waits, and what is kept on disk."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ModelUnknown, PoolFull
from pool_service.core.results import Every, Pinned
from pool_service.core.server import Phase, StopSignal
from pool_service.core.types import Settings
from tests.pool.capacity import fill, limits, queued, room, sized, there
from tests.pool.running import DEFAULTS, LIMITS, Running, now, running
from tests.world import NEVER, Script

pytestmark = pytest.mark.looptime

A_DAY = 86_400.0


async def stays(run: Running, model: str = "m") -> bool:
    """Let the model go unused for a day; return whether its server is still there."""
    await asyncio.sleep(A_DAY)
    return run.phase(model) is Phase.READY


async def test_a_pinned_server_stays_however_long_it_is_unused_until_the_pin_is_taken_back() -> (
    None
):
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.pin("m", pinned=True)
        assert await stays(run)
        assert (await run.pool.ensure("m")).server.generation == 1
        await run.pool.pin("m", pinned=False)
        assert run.server("m").expires_at == now() + DEFAULTS.keep_alive
        assert not await stays(run)


async def test_what_has_been_unused_for_longer_goes_as_soon_as_its_pin_is_taken_back() -> None:
    async with running(models={"m": replace(DEFAULTS, pinned=True)}) as run:
        await run.pool.ensure("m")
        assert await stays(run)
        began = now()
        assert await run.pool.pin("m", pinned=False) == Pinned(
            pinned=False, changed=True, configured=True, noted=True, by_call=True
        )
        await asyncio.sleep(1)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(began, abs=0.5))]


async def test_a_pin_is_kept_over_evictions_restarts_and_reloads() -> None:
    async with running() as run:
        await run.pool.pin("m", pinned=True)
        await run.pool.ensure("m")
        (removed,) = await run.pool.evict("m")
        assert removed.server.settings.pinned
        assert run.phase("m") is None, "what was evicted stays away"
        await run.pool.reload(Catalogue(DEFAULTS), LIMITS)
        # The answer came after the write: nothing more reaches the disk.
        await run.restart(written=False)
        await run.pool.ensure("m")
        assert await stays(run)
        await run.restart()
        assert await stays(run)
        assert run.server("m").generation == 2


async def test_a_pin_that_is_taken_back_is_so_after_a_crash_too() -> None:
    async with running(models={"m": replace(DEFAULTS, pinned=True)}) as run:
        await run.pool.pin("m", pinned=False)
        await run.restart(written=False)
        await run.pool.ensure("m")
        assert not await stays(run)
        await run.pool.pin("m", pinned=None)
        await run.restart(written=False)
        await run.pool.ensure("m")
        assert await stays(run)


async def test_the_answer_waits_for_the_disk() -> None:
    async with running() as run:
        run.world.records.flushing = 2.0
        await run.pool.pin("m", pinned=True)
        assert now() == 2.0
        assert run.world.records.pins == {"m": True}


async def test_without_a_disk_a_pin_counts_for_this_service_and_is_written_later() -> None:
    async with running() as run:
        run.world.records.degraded_reason = "no room"
        await run.pool.ensure("m")
        assert (await run.pool.pin("m", pinned=True)).changed
        assert await stays(run)
        assert run.world.records.pins == {}
        run.world.records.degraded_reason = ""
        run.world.records.write()
        assert run.world.records.pins == {"m": True}


async def test_watchers_and_holders_are_told_and_the_process_is_the_same() -> None:
    async with running() as run:
        held = run.pool.hold("m")
        told: list[bool] = []
        async for server in held:
            if server.phase is Phase.READY:
                told.append(server.settings.pinned)
                await run.pool.pin("m", pinned=not told[-1])
                if len(told) == 3:  # pinned, not pinned, and told
                    break
        await held.aclose()
        await asyncio.sleep(1)
        assert told == [False, True, False]
        changes = [one.server for one in run.changes if one.server.phase is Phase.READY]
        assert {one.settings.pinned for one in changes} == {True, False}
        assert {one.identity for one in changes} == {run.server("m").identity}
        assert not any(one.outdated for one in changes)


async def test_what_stops_for_being_unused_ends_and_its_next_is_pinned() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        run.world.of("m").script.ends_on = {StopSignal.TERMINATE: 4.0}
        await asyncio.sleep(run.server("m").expires_at - now() + 1.0)
        assert run.phase("m") is Phase.STOPPING
        await run.pool.pin("m", pinned=True)
        assert run.server("m").settings.pinned
        await asyncio.sleep(60)
        assert run.phase("m") is None, "a pin starts nothing"
        await run.pool.ensure("m")
        assert await stays(run)


async def test_what_is_pinned_comes_again_when_it_dies() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.pin("m", pinned=True)
        run.world.of("m").end()
        await asyncio.sleep(60)
        assert (run.phase("m"), run.server("m").generation) == (Phase.READY, 2)


async def test_an_eviction_of_all_idle_leaves_it_out() -> None:
    async with running() as run:
        await asyncio.gather(run.pool.ensure("a"), run.pool.ensure("b"))
        await run.pool.pin("a", pinned=True)
        await asyncio.sleep(60)
        assert [one.server.model for one in await run.pool.evict(Every.IDLE)] == ["b"]
        assert there(run) == ["a"]


async def test_only_what_is_served_can_be_pinned() -> None:
    async with running(only_listed=True) as run:
        with pytest.raises(ModelUnknown):
            await run.pool.pin("m", pinned=True)
        assert not (await run.pool.pin("m", pinned=None)).changed


# --- who waits --------------------------------------------------------------------------------


async def test_a_start_that_waited_for_what_is_pinned_since_gets_the_place_of_another() -> None:
    async with room(grace_period=60.0) as run:
        await fill(run, "a", "b", size=5)
        run.world.script("c", sized(5))
        call = run.ensure("c")
        await asyncio.sleep(1)
        chosen = next(one for one in "ab" if f"'{one}'" in run.server("c").detail)
        other = "b" if chosen == "a" else "a"
        await run.pool.pin(chosen, pinned=True)
        await call
        assert there(run) == sorted((chosen, "c"))
        assert run.world.signals(chosen) == []
        assert len(run.world.signals(other)) == 1


async def test_a_start_for_which_nothing_can_go_any_more_fails_as_with_configured_pins() -> None:
    async with room(grace_period=60.0) as run:
        await fill(run, "a", size=8)
        run.world.script("b", sized(5))
        call = run.ensure("b")
        await asyncio.sleep(1)
        await run.pool.pin("a", pinned=True)
        # Who asked for it while it was to go has it again.
        assert (await run.pool.ensure("a")).server.generation == 1
        with pytest.raises(PoolFull) as caught:
            await call
        assert "waits for 'a' to go, which the pool does not preempt" in str(caught.value)
        assert run.world.signals("a") == []


async def test_callers_who_waited_behind_the_preemption_get_the_server_that_is_pinned() -> None:
    async with room(grace_period=0.0) as run:
        # The check that would let it go never ends.
        run.world.script("a", sized(8, check=NEVER))
        await run.pool.ensure("a")
        run.world.script("b", sized(5))
        waiting = run.ensure("b")
        await asyncio.sleep(0.01)
        behind = run.ensure("a")
        await asyncio.sleep(0.01)
        assert not behind.done()
        await run.pool.pin("a", pinned=True)
        assert (await behind).server.generation == 1
        waiting.cancel()


async def test_a_start_that_waited_for_a_pinned_server_goes_on_as_soon_as_it_is_unpinned() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        await run.pool.pin("a", pinned=True)
        run.world.script("b", sized(5))
        call = run.ensure("b")
        await asyncio.sleep(100)
        assert queued(run) == ["b"]
        unpinned_at = now()
        await run.pool.pin("a", pinned=False)
        await call
        assert there(run) == ["b"]
        assert now() - unpinned_at < 10.0  # the end of one and the load of another


async def test_a_pinned_server_can_always_be_evicted_so_that_another_starts() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        await run.pool.pin("a", pinned=True)
        run.world.script("b", sized(5))
        call = run.ensure("b")
        await asyncio.sleep(20)
        assert [one.server.model for one in await run.pool.evict("a")] == ["a"]
        await call
        assert there(run) == ["b"]


async def test_the_pins_of_many_never_keep_more_than_the_budget_allows() -> None:
    async with room(limits=limits(memory_budget=10)) as run:
        for model in "abc":
            await run.pool.pin(model, pinned=True)
        await fill(run, "a", "b", size=5)
        run.world.script("c", Script(needs=5))
        with pytest.raises(PoolFull):
            await run.pool.ensure("c")
        assert there(run) == ["a", "b"]


async def test_a_pin_counts_for_whatever_runtime_model_a_caller_names() -> None:
    async with running(models={"m": Settings("org/m")}) as run:
        await run.pool.pin("m", pinned=True)
        await run.pool.ensure("m", "org/other")
        assert run.server("m").settings.pinned
        assert await stays(run)
