"""Claims about how long servers stay, and what counts as a use, in virtual time."""

import asyncio

import pytest

from pool_service.core.errors import ServerInUse
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase
from pool_service.core.types import FOREVER, Settings
from tests.pool.running import now, running
from tests.world import NEVER, Script

pytestmark = pytest.mark.looptime


async def test_an_unused_server_is_evicted_exactly_its_keep_alive_after_the_last_ensure() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(100)
        await run.pool.ensure("m")
        await asyncio.sleep(299.99)
        assert run.phase("m") is Phase.READY
        assert run.world.signals("m") == []
        await asyncio.sleep(0.02)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(401.0))]
        assert run.phase("m") is None


async def test_the_removal_says_that_it_was_unused() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(301)
        removed = run.changes[-1]
        assert removed.removed
        assert removed.server.last_exit is not None
        assert removed.server.last_exit.cause is Cause.IDLE


async def test_a_start_that_nobody_waited_for_counts_as_used_when_it_is_ready() -> None:
    async with running(keep_alive=300.0) as run:
        run.world.script("m", Script(load=50.0))
        call = run.ensure()
        await asyncio.sleep(1)
        call.cancel()
        await asyncio.sleep(348)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(2)
        assert run.phase("m") is None


async def test_keep_alive_zero_goes_after_the_grace_period() -> None:
    async with running(grace_period=10.0) as run:
        await run.pool.ensure("m", keep_alive=0.0)
        await asyncio.sleep(9.99)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(0.02)
        assert run.phase("m") is None


async def test_keep_alive_for_ever_stays() -> None:
    async with running() as run:
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(1e7)
        assert run.phase("m") is Phase.READY


async def test_the_last_ensure_that_names_a_keep_alive_sets_it() -> None:
    async with running() as run:
        await run.pool.ensure("m", keep_alive=FOREVER)
        await run.pool.ensure("m")
        await asyncio.sleep(1e6)
        assert run.phase("m") is Phase.READY
        await run.pool.ensure("m", keep_alive=20.0)
        await asyncio.sleep(20.01)
        assert run.phase("m") is None


async def test_a_models_own_settings_go_before_the_defaults() -> None:
    own = Settings(runtime_model="org/own", keep_alive=20.0, grace_period=0.0)
    async with running(models={"m": own}) as run:
        assert (await run.pool.ensure("m")).server.settings.runtime_model == "org/own"
        await asyncio.sleep(20.01)
        assert run.phase("m") is None


async def test_an_idle_server_with_requests_in_flight_stays_until_they_are_done() -> None:
    async with running(keep_alive=300.0) as run:
        busy = Script(requests=2)
        run.world.script("m", busy)
        await run.pool.ensure("m")
        await asyncio.sleep(301)
        assert run.phase("m") is Phase.READY
        assert len(run.world.times("check")) == 1
        busy.requests = 0
        await asyncio.sleep(298.9)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(0.2)
        assert run.phase("m") is None


async def test_requests_straight_to_the_endpoint_keep_a_server_without_an_ensure() -> None:
    async with running(keep_alive=300.0) as run:
        direct = Script()
        run.world.script("m", direct)
        await run.pool.ensure("m")
        await asyncio.sleep(250)
        direct.active_at = now()
        await asyncio.sleep(299.9)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(0.2)
        assert run.phase("m") is None


@pytest.mark.parametrize("ahead", [3600.0, -3600.0, -1e9])
async def test_a_clock_that_is_set_neither_keeps_an_unused_server_nor_ends_a_used_one(
    ahead: float,
) -> None:
    async with running(keep_alive=300.0) as run:
        direct = Script(active_at=0.0, served=0.0)
        run.world.script("m", direct)
        await run.pool.ensure("m")
        direct.wall_ahead = ahead
        # Used once in each keep alive, by who does not ask the pool.
        for _ in range(4):
            await asyncio.sleep(250)
            direct.active_at, direct.served = now(), (direct.served or 0) + 1
            assert run.phase("m") is Phase.READY
        # Whatever it says of the age, it does not change any more.
        await asyncio.sleep(601)
        assert run.phase("m") is None


async def test_requests_that_only_a_counter_shows_keep_a_server() -> None:
    async with running(keep_alive=300.0) as run:
        direct = Script(served=0.0)
        run.world.script("m", direct)
        await run.pool.ensure("m")
        for served in range(1, 10):
            await asyncio.sleep(290)
            direct.served = float(served)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(601)
        assert run.phase("m") is None


async def test_a_check_that_finds_a_server_busy_counts_as_a_use() -> None:
    async with running(keep_alive=300.0, grace_period=10.0) as run:
        busy = Script(requests=1)
        run.world.script("m", busy)
        await run.pool.ensure("m")
        await asyncio.sleep(200)
        with pytest.raises(ServerInUse):
            await run.pool.evict("m")
        busy.requests = 0
        await asyncio.sleep(299)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(2)
        assert run.phase("m") is None


async def test_an_eviction_of_what_is_idle_spares_what_was_just_asked_directly() -> None:
    async with running(grace_period=10.0) as run:
        direct = Script()
        run.world.script("m", direct)
        await run.pool.ensure("m")
        await asyncio.sleep(100)
        direct.active_at = now()
        assert await run.pool.evict(Every.IDLE) == ()


async def test_a_server_whose_use_is_unknown_counts_as_busy() -> None:
    async with running(keep_alive=300.0) as run:
        run.world.script("m", Script(requests=None))
        await run.pool.ensure("m")
        await asyncio.sleep(1000)
        assert run.phase("m") is Phase.READY


async def test_a_check_that_breaks_is_taken_as_busy() -> None:
    async with running(keep_alive=300.0) as run:
        run.world.script("m", Script(raises={"check": ZeroDivisionError()}))
        await run.pool.ensure("m")
        await asyncio.sleep(1000)
        assert run.phase("m") is Phase.READY
        assert len(run.world.times("check")) == 3


async def test_a_busy_server_with_no_keep_alive_at_all_is_not_asked_without_a_pause() -> None:
    async with running(grace_period=0.0) as run:
        run.world.script("m", Script(requests=1))
        await run.pool.ensure("m", keep_alive=0.0)
        await asyncio.sleep(10)
        assert 1 <= len(run.world.times("check")) <= 11
        assert run.phase("m") is Phase.READY


async def test_finding_a_server_busy_is_no_change() -> None:
    async with running(keep_alive=300.0) as run:
        run.world.script("m", Script(requests=1))
        await run.pool.ensure("m")
        await asyncio.sleep(1)  # it is measured, once
        before = run.pool.history.revision
        await asyncio.sleep(1000)
        assert run.world.times("check")
        assert run.pool.history.revision == before


async def test_an_ensure_while_it_is_asked_how_busy_it_is_keeps_it() -> None:
    async with running(keep_alive=300.0) as run:
        run.world.script("m", Script(check=2.0))
        await run.pool.ensure("m")
        await asyncio.sleep(301)
        assert len(run.world.times("check")) == 1
        assert not (await run.pool.ensure("m")).started
        await asyncio.sleep(299)
        assert run.phase("m") is Phase.READY


async def test_evict_refuses_a_busy_server_without_force() -> None:
    async with running() as run:
        run.world.script("m", Script(requests=3))
        await run.pool.ensure("m")
        with pytest.raises(ServerInUse, match="3 request") as caught:
            await run.pool.evict("m")
        assert caught.value.requests == 3
        assert run.world.signals("m") == []
        removed = await run.pool.evict("m", force=True)
        assert [each.server.model for each in removed] == ["m"]


async def test_who_has_just_read_the_last_byte_can_evict() -> None:
    async with running() as run:
        script = Script(requests=1)
        run.world.script("m", script)
        await run.pool.ensure("m")
        asyncio.get_running_loop().call_later(0.09, setattr, script, "requests", 0)
        (removed,) = await run.pool.evict("m")
        assert removed.server.model == "m"
        looks = [call.at for call in run.world.times("check")]
        assert looks == pytest.approx([1.0, 1.1, 1.1])


async def test_what_is_busy_still_a_moment_later_is_refused() -> None:
    async with running() as run:
        run.world.script("m", Script(requests=None))
        await run.pool.ensure("m")
        with pytest.raises(ServerInUse):
            await run.pool.evict("m")
        assert [call.at for call in run.world.times("check")] == pytest.approx([1.0, 1.1])


async def test_evict_of_what_is_not_there_succeeds_with_nothing() -> None:
    async with running() as run:
        assert await run.pool.evict("m") == ()
        assert await run.pool.evict(Every.ALL) == ()
        assert await run.pool.evict(Every.IDLE) == ()


async def test_evict_all_leaves_out_the_busy_and_ends_the_rest() -> None:
    async with running() as run:
        run.world.script("busy", Script(requests=1))
        run.world.script("loads", Script(load=50.0))
        await asyncio.gather(run.pool.ensure("busy"), run.pool.ensure("idle"))
        call = run.ensure("loads")
        await asyncio.sleep(1)
        removed = await run.pool.evict(Every.ALL)
        assert [each.server.model for each in removed] == ["idle", "loads"]
        assert run.phase("busy") is Phase.READY
        await asyncio.gather(call, return_exceptions=True)


async def test_evict_idle_spares_the_resident_the_busy_and_the_starting() -> None:
    async with running(grace_period=10.0) as run:
        run.world.script("busy", Script(requests=1))
        run.world.script("loads", Script(load=50.0))
        await asyncio.gather(run.pool.ensure("busy"), run.pool.ensure("idle"))
        await asyncio.sleep(11)
        call = run.ensure("loads")
        await run.pool.ensure("fresh")
        removed = await run.pool.evict(Every.IDLE)
        assert [each.server.model for each in removed] == ["idle"]
        await call


async def test_evict_idle_spares_a_server_that_is_ensured_while_it_is_asked() -> None:
    async with running(grace_period=10.0) as run:
        run.world.script("m", Script(check=2.0))
        await run.pool.ensure("m")
        await asyncio.sleep(11)
        evicting = asyncio.create_task(run.pool.evict(Every.IDLE))
        await asyncio.sleep(1)
        await run.pool.ensure("m")
        assert await evicting == ()
        assert run.phase("m") is Phase.READY


async def test_an_eviction_goes_on_when_its_caller_gave_up() -> None:
    async with running() as run:
        run.world.script("m", Script(check=1.0))
        await run.pool.ensure("m")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.pool.evict("m"), 0.5)
        await asyncio.sleep(2)
        assert run.phase("m") is None


async def test_listing_is_no_use() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        for _ in range(300):
            await asyncio.sleep(1)
            run.pool.page(None, 10)
            run.pool.totals()
        await asyncio.sleep(0.01)
        assert run.phase("m") is None


async def test_a_ready_server_stays_responsive_to_time_while_another_never_loads() -> None:
    async with running(keep_alive=50.0, start_timeout=1000.0) as run:
        run.world.script("slow", Script(load=NEVER))
        call = run.ensure("slow")
        await run.pool.ensure("m")
        begun = now()
        await asyncio.sleep(50.01)
        assert run.phase("m") is None
        assert now() == pytest.approx(begun + 50.01)
        call.cancel()
