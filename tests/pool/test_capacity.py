"""Claims about the memory budget: which models fit, which are evicted, in virtual time."""

import asyncio

import pytest

from pool_service.core.errors import (
    ModelTooLarge,
    PoolFull,
    ServerInUse,
    StartFailed,
    StartTimeout,
)
from pool_service.core.idle import AFTERGLOW_S
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.types import Diagnosis, EstimateSource, ExitReport, Settings
from tests.pool.capacity import fill, limits, queued, room, sized, there
from tests.pool.running import now
from tests.world import NEVER, Script, outcomes

pytestmark = pytest.mark.looptime


async def test_what_fits_starts_side_by_side_and_what_does_not_waits() -> None:
    async with room() as run:
        for model in "abc":
            run.world.script(model, sized(5, load=4.0))
        for model in "abc":
            run.ask(model)
        await asyncio.sleep(1)
        assert there(run) == ["a", "b"]
        assert queued(run) == ["c"]
        assert run.pool.totals().memory_reserved == 10


async def test_what_can_never_fit_is_refused_at_once_with_the_figures() -> None:
    async with room() as run:
        run.world.script("m", Script(needs=11))
        with pytest.raises(ModelTooLarge, match="estimated from the size") as caught:
            await run.pool.ensure("m")
        assert (caught.value.needed, caught.value.budget) == (11, 10)
        assert run.phase("m") is None
        assert now() == 0.0


@pytest.mark.parametrize(
    ("needs", "budget", "said"),
    [
        (151_000_000, 150_000_000, "151 MB .* 150 MB"),
        (3_240_000_000, 900_000_000, r"3\.2 GB .* 900 MB"),
    ],
)
async def test_what_can_never_fit_is_reported_in_units_that_show_it(
    needs: int, budget: int, said: str
) -> None:
    async with room(limits=limits(memory_budget=budget)) as run:
        run.world.script("m", Script(needs=needs))
        with pytest.raises(ModelTooLarge, match=said):
            await run.pool.ensure("m")


async def test_the_server_with_the_lowest_retention_value_is_evicted_and_no_other() -> None:
    async with room() as run:
        for model, size in (("a", 3), ("b", 3), ("c", 4)):
            await fill(run, model, size=size)
        for _ in range(5):
            await asyncio.sleep(1)
            await asyncio.gather(run.pool.ensure("a"), run.pool.ensure("c"))
        await fill(run, "d", size=3)
        assert there(run) == ["a", "c", "d"]
        end = next(c.server.last_exit for c in run.changes if c.removed)
        assert end is not None
        assert end.cause is Cause.PREEMPTED


async def test_a_preempted_server_is_not_handed_out_at_once() -> None:
    async with room() as run:
        # Looking at it takes long: until then nothing but the claim says that it is to go.
        run.world.script("a", sized(10, check=NEVER))
        await run.pool.ensure("a")
        assert run.pool.at_once("a") is not None
        run.world.script("b", sized(5))
        run.ask("b")
        await asyncio.sleep(0.01)
        assert queued(run) == ["b"]
        assert run.pool.at_once("a") is None


async def test_as_many_are_evicted_as_needed_and_no_more() -> None:
    async with room() as run:
        await fill(run, "a", "b", "c", "d", "e", size=2)
        await fill(run, "big", size=5)
        assert len(there(run)) == 3
        assert len(run.world.times("signal")) == 3


async def test_a_start_waits_until_the_evicted_is_gone_and_its_memory_is_back() -> None:
    async with room(stop_timeout=50.0) as run:
        run.world.script("a", sized(8, clean_up=3.0))
        await run.pool.ensure("a")
        run.world.of("a").script.ends_on = {StopSignal.TERMINATE: 20.0}
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(22.9)
        assert run.world.times("prepare", "b") == []
        assert "'a' to be gone" in run.server("b").detail
        await call
        assert run.world.times("prepare", "b")[0].at == pytest.approx(1.0 + 23.0, abs=0.1)


async def test_a_start_waits_for_memory_of_the_gone_that_the_system_still_frees() -> None:
    async with room() as run:
        run.world.memory = 10
        await fill(run, "a", size=8)
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(0)
        run.world.others = 8
        await asyncio.sleep(1.0)
        assert run.phase("a") is None
        assert "to come back" in run.server("b").detail
        run.world.others = 0
        began = now()
        await call
        assert now() < began + 2.0


async def test_memory_that_others_took_holds_a_start_back_until_it_is_there() -> None:
    async with room() as run:
        run.world.memory, run.world.others = 100, 95
        run.world.script("m", sized(8))
        call = run.ensure("m")
        await asyncio.sleep(60)
        assert run.phase("m") is Phase.QUEUED
        assert run.server("m").detail == "waits for memory"
        run.world.others = 90
        await call


async def test_the_reserve_of_the_machine_is_left_to_others() -> None:
    async with room(limits=limits(memory_reserve=3)) as run:
        run.world.memory = 10
        run.world.script("m", sized(8))
        call = run.ensure("m")
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.QUEUED
        run.world.memory = 11
        await call


async def test_the_memory_that_a_load_will_still_take_is_not_given_away() -> None:
    async with room() as run:
        run.world.memory = 9
        run.world.script("a", sized(5, load=20.0))
        run.world.script("b", sized(5))
        run.ask("a")
        await asyncio.sleep(1)
        call = run.ensure("b")
        await asyncio.sleep(10)
        assert there(run) == ["a"]
        await call
        assert run.phase("a") is None


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (Script(needs=8, dies=1.0, load=NEVER), StartFailed),
        (Script(needs=8, load=NEVER), StartTimeout),
        (Script(needs=8, raises={"prepare": StartFailed("no", model="a")}), StartFailed),
        (Script(needs=8, raises={"spawn": StartFailed("no", model="a")}), StartFailed),
    ],
)
async def test_a_start_that_failed_frees_its_reservation(
    script: Script, error: type[Exception]
) -> None:
    async with room(start_timeout=30.0) as run:
        run.world.script("a", script)
        run.world.script("b", sized(8))
        first, second = await outcomes(run.ensure("a"), run.ensure("b"))
        assert isinstance(first, error)
        assert not isinstance(second, Exception)
        assert run.pool.totals().memory_reserved == 8


async def test_a_crash_and_an_eviction_free_their_reservations() -> None:
    async with room() as run:
        await fill(run, "a", "b")
        run.world.of("a").end()
        await asyncio.sleep(0.01)
        assert run.pool.totals().memory_reserved == 5
        await run.pool.evict("b")
        assert run.pool.totals().memory_reserved == 0


async def test_a_caller_that_leaves_the_queue_keeps_no_reservation() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(5)
        call.cancel()
        await asyncio.sleep(0)
        assert [one.model for one in run.pool.page(None, 9)] == ["a"]
        await fill(run, "c", size=2)


async def test_what_was_measured_takes_the_place_of_what_was_guessed() -> None:
    async with room() as run:
        for model in "ab":
            run.world.script(model, Script(needs=8, takes=2))
            await run.pool.ensure(model)
        await asyncio.sleep(1)
        assert there(run) == ["a", "b"]
        assert run.server("a").expected == 2
        assert run.server("a").expected_by is EstimateSource.OBSERVED


async def test_what_was_declared_stays_reserved_though_less_is_taken() -> None:
    async with room() as run:
        run.world.script("a", Script(needs=8, takes=4, source=EstimateSource.DECLARED))
        await run.pool.ensure("a")
        await asyncio.sleep(2)
        assert run.pool.totals().memory_reserved == 8


async def test_a_model_that_outgrew_what_was_expected_is_expected_to_do_so_again() -> None:
    async with room() as run:
        run.world.script("a", Script(needs=3, takes=7, source=EstimateSource.DECLARED))
        await run.pool.ensure("a")
        await asyncio.sleep(1)
        assert run.pool.totals().memory_reserved == 7
        await run.pool.evict("a")
        assert run.world.recorded == {"a": 7}


async def test_a_server_at_work_is_never_stopped_and_the_end_of_its_work_lets_the_next_in() -> None:
    async with room() as run:
        await fill(run, "a", size=8)
        run.world.of("a").script.requests = 1
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(200)
        assert run.world.signals("a") == []
        assert queued(run) == ["b"]
        run.world.of("a").script.requests = 0
        began = now()
        await call
        assert now() < began + 4.0


async def test_a_request_between_the_checks_keeps_the_candidate() -> None:
    async with room() as run:
        run.world.script("a", sized(8, check=1.0))
        await run.pool.ensure("a")
        run.world.script("b", sized(8))
        call = run.ensure("b")
        await asyncio.sleep(1.5)
        run.world.of("a").script.requests = 1
        await asyncio.sleep(20)
        assert run.world.signals("a") == []
        call.cancel()


async def test_no_server_is_evicted_within_its_grace_period() -> None:
    async with room(grace_period=10.0) as run:
        await fill(run, "a", size=8)
        run.world.script("b", sized(8))
        await run.pool.ensure("b")
        assert run.world.signals("a") == [("SIGTERM", pytest.approx(11.0))]


async def test_pinned_and_starting_servers_are_not_evicted() -> None:
    pinned = Settings(runtime_model="", pinned=True, grace_period=0.0, start_timeout=1e4)
    async with room(models={"p": pinned}, start_timeout=1e4) as run:
        await fill(run, "p")
        run.world.script("s", sized(5, load=NEVER))
        call = run.ensure("s")
        await asyncio.sleep(1)
        run.world.script("b", sized(5))
        with pytest.raises(PoolFull) as caught:
            await run.pool.ensure("b")
        assert "waits for 's' to have started" in str(caught.value)
        assert caught.value.retry_after > 0
        assert run.world.times("signal") == []
        call.cancel()


async def test_a_model_that_ran_out_of_memory_is_expected_to_need_more() -> None:
    report = ExitReport(None, 9, Diagnosis.OUT_OF_MEMORY, "out of memory")
    async with room() as run:
        run.world.script("m", sized(4), sized(4))
        await run.pool.ensure("m")
        run.world.of("m").end(report)
        await asyncio.sleep(0.01)
        await run.pool.ensure("m")
        assert run.server("m").expected == 5
        assert run.server("m").generation == 2


async def test_what_the_system_kills_again_and_again_is_not_expected_to_need_more_than_all() -> (
    None
):
    report = ExitReport(None, 9, Diagnosis.OUT_OF_MEMORY, "out of memory")
    async with room() as run:
        run.world.script("m", sized(7))
        for expected in (7, 8, 10, 10):
            await run.pool.ensure("m")
            assert run.server("m").expected == expected
            run.world.of("m").end(report)
            await asyncio.sleep(100)


async def test_at_most_so_many_of_a_group_are_there() -> None:
    grouped = Settings(runtime_model="", groups=("g",), grace_period=0.0)
    models = dict.fromkeys("abc", grouped)
    async with room(limits=limits(groups={"g": 2}), models=models) as run:
        for model in "abcd":
            await fill(run, model, size=1)
            await asyncio.sleep(1)
        assert there(run) == ["b", "c", "d"]


async def test_an_eviction_that_found_a_server_busy_makes_nobody_wait_for_its_end() -> None:
    async with room() as run:
        run.world.script("busy", sized(8, requests=1))
        await run.pool.ensure("busy")
        run.world.script("m", sized(8))
        call = run.ensure("m")
        await asyncio.sleep(1)
        for _ in range(20):
            evicting = asyncio.create_task(run.pool.evict("busy"))
            await asyncio.sleep(AFTERGLOW_S / 2)
            assert run.server("m").detail == "waits for 'busy' to be less busy"
            assert isinstance((await outcomes(evicting))[0], ServerInUse)
        call.cancel()
