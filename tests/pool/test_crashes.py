"""Claims about servers that die, in virtual time."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from pool_service.core.errors import (
    CrashLoop,
    Evicted,
    ModelRejected,
    RuntimeUnavailable,
    ShuttingDown,
    StartFailed,
)
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.types import Settings
from tests.pool.running import LIMITS, Running, now, running
from tests.world import CRASH, KILLED, NEVER, REJECTED, Script, outcomes

pytestmark = pytest.mark.looptime

SLOW = replace(LIMITS, backoff_initial=10.0, backoff_max=40.0, crash_limit=3)
"""A first pause of 5 to 10 seconds."""

KILLED_LOADING = Script(load=60.0, dies=2.0, report=KILLED)


async def crash(run: Running) -> None:
    """What runs dies, and it is known."""
    run.world.of("m").end(CRASH)
    await asyncio.sleep(0.001)


async def crash_again(run: Running) -> None:
    """It had served, died, was started again at once, and died once more."""
    await run.pool.ensure("m")
    await crash(run)
    await run.pool.ensure("m")
    await crash(run)


async def test_one_that_is_killed_while_it_starts_is_started_again_and_its_callers_stay() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING, Script(load=1.0))
        calls = [run.ensure() for _ in range(3)]
        await asyncio.sleep(2.001)
        server = run.server("m")
        assert server.phase is Phase.BACKING_OFF
        assert 5.0 <= server.retry_at - 2.0 <= 10.0
        assert (server.identity, server.detail) == (None, KILLED.message)
        assert run.pool.totals().waiting_calls == 3
        answers = await asyncio.gather(*calls)
        assert now() == pytest.approx(server.retry_at + 1.0)
        assert {answer.server.generation for answer in answers} == {2}
        assert [answer.started for answer in answers] == [True, False, False]


async def test_one_that_ends_by_itself_while_it_starts_is_reported_at_once() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", Script(load=60.0, dies=2.0), Script())
        with pytest.raises(StartFailed):
            await run.pool.ensure("m")
        assert now() == pytest.approx(2.0)
        await asyncio.sleep(0.001)
        assert run.phase("m") is Phase.FAILED


async def test_who_asks_within_the_backoff_waits_for_its_end() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", Script(load=1.0))
        await crash_again(run)
        failed = run.server("m")
        assert (failed.phase, failed.failure) == (Phase.FAILED, None)
        call = run.ensure()
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.BACKING_OFF
        assert (await call).server.generation == 3
        assert now() == pytest.approx(failed.retry_at + 1.0)


async def test_one_that_had_served_is_started_again_at_once_the_first_time() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", Script(load=1.0))
        await run.pool.ensure("m")
        await crash(run)
        crashed_at = now()
        assert (await run.pool.ensure("m")).server.generation == 2
        assert now() == pytest.approx(crashed_at + 1.0)


async def test_a_crash_that_nobody_waits_for_starts_nothing() -> None:
    async with running(limits=SLOW) as run:
        await run.pool.ensure("m")
        await crash(run)
        await asyncio.sleep(100)
        assert len(run.world.times("spawn")) == 1
        assert run.phase("m") is Phase.FAILED


async def test_who_asks_after_the_backoff_does_not_wait() -> None:
    async with running(limits=SLOW) as run:
        await run.pool.ensure("m")
        await crash(run)
        await asyncio.sleep(10)
        begun = now()
        await run.pool.ensure("m")
        assert now() == pytest.approx(begun + 1.0)


async def test_a_backoff_that_nobody_waits_for_any_more_is_over_and_its_pause_is_kept() -> None:
    async with running(limits=SLOW) as run:
        await crash_again(run)
        retry_at = run.server("m").retry_at
        call = run.ensure()
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.sleep(0)
        failed = run.server("m")
        assert failed.phase is Phase.FAILED
        assert failed.retry_at == pytest.approx(retry_at)
        await asyncio.sleep(60)
        assert len(run.world.times("spawn")) == 2


async def test_each_death_doubles_the_pause() -> None:
    async with running(limits=replace(SLOW, crash_limit=10, backoff_max=1000.0)) as run:
        run.world.script("m", *[KILLED_LOADING] * 5, Script())
        await run.pool.ensure("m")
        spawned = [call.at for call in run.world.times("spawn")]
        pauses = [later - at - 2.0 for at, later in pairwise(spawned)]
        for n, pause in enumerate(pauses):
            assert 5.0 * 2**n <= pause <= 10.0 * 2**n


async def test_a_model_that_dies_too_often_is_reported_as_a_loop_with_its_last_lines() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING)
        failures = await outcomes(run.pool.ensure("m"), run.pool.ensure("m"))
        for failure in failures:
            assert isinstance(failure, CrashLoop)
            assert failure.retry_after == SLOW.backoff_max
            assert failure.last_lines == ("boom",)
        assert len(run.world.times("spawn")) == SLOW.crash_limit
        assert run.phase("m") is Phase.FAILED


async def test_a_crash_loop_is_answered_from_memory_with_the_time_left_and_then_tried_once() -> (
    None
):
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING)
        await outcomes(run.pool.ensure("m"))
        await asyncio.sleep(15)
        begun = now()
        with pytest.raises(CrashLoop) as caught:
            await run.pool.ensure("m")
        assert caught.value.retry_after == pytest.approx(25.0)
        assert now() == begun
        assert len(run.world.times("spawn")) == 3
        await asyncio.sleep(25)
        with pytest.raises(CrashLoop):
            await run.pool.ensure("m")
        assert len(run.world.times("spawn")) == 4


async def test_an_eviction_resets_a_loop() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", *[KILLED_LOADING] * 3, KILLED_LOADING, Script())
        await outcomes(run.pool.ensure("m"))
        assert len(await run.pool.evict("m")) == 1
        assert isinstance(await run.pool.ensure("m"), Ensured)
        assert run.server("m").crashes[1:] == ()


async def test_an_eviction_resets_the_deaths_of_one_that_is_wanted_again_at_once() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING, Script(ends_on={StopSignal.TERMINATE: 5.0}))
        await run.pool.ensure("m")
        assert len(run.server("m").crashes) == 1
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        await run.pool.ensure("m")
        assert run.server("m").crashes == ()
        await evicting


async def test_an_eviction_during_a_backoff_answers_its_waiters() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING)
        call = run.ensure()
        await asyncio.sleep(3)
        assert len(await run.pool.evict("m")) == 1
        assert isinstance((await outcomes(call))[0], Evicted)
        assert run.phase("m") is None


async def test_a_shutdown_during_a_backoff_answers_its_waiters() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING)
        call = run.ensure()
        await asyncio.sleep(3)
        await run.pool.shutdown()
        assert isinstance((await outcomes(call))[0], ShuttingDown)


async def test_a_stable_run_forgets_the_deaths_before_it() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING, KILLED_LOADING, Script(load=0.0))
        await run.pool.ensure("m")
        await asyncio.sleep(SLOW.stable_run)
        await crash(run)
        failed = run.server("m")
        assert len(failed.crashes) == 1
        assert failed.retry_at - now() <= 10.0


async def test_an_unstable_run_adds_to_them() -> None:
    async with running(limits=SLOW) as run:
        run.world.script("m", KILLED_LOADING, KILLED_LOADING, Script(load=0.0))
        await run.pool.ensure("m")
        await asyncio.sleep(SLOW.stable_run - 1)
        await crash(run)
        with pytest.raises(CrashLoop):
            await run.pool.ensure("m")


async def test_exiting_with_zero_unasked_is_a_crash() -> None:
    async with running(limits=SLOW) as run:
        await run.pool.ensure("m")
        run.world.of("m").end(replace(CRASH, code=0))
        await asyncio.sleep(0.001)
        failed = run.server("m")
        assert len(failed.crashes) == 1
        assert failed.last_exit is not None
        assert failed.last_exit.cause is Cause.CRASHED


async def test_a_refused_model_is_answered_from_memory_for_a_moment_and_never_backs_off() -> None:
    async with running() as run:
        run.world.script("m", Script(load=9.0, dies=1.0, report=REJECTED))
        for _ in range(50):
            with pytest.raises(ModelRejected) as caught:
                await run.pool.ensure("m")
            assert caught.value.last_lines == ("no config.json",)
        assert len(run.world.times("spawn")) == 1
        assert run.server("m").crashes == ()
        await asyncio.sleep(LIMITS.failure_memory)
        with pytest.raises(ModelRejected):
            await run.pool.ensure("m")
        assert len(run.world.times("spawn")) == 2


async def test_a_missing_runtime_is_answered_from_memory_for_a_moment() -> None:
    async with running() as run:
        run.world.script("m", Script(raises={"prepare": RuntimeUnavailable("none")}))
        for pause in (0.0, LIMITS.failure_memory - 0.1, 0.2):
            await asyncio.sleep(pause)
            with pytest.raises(RuntimeUnavailable):
                await run.pool.ensure("m")
        assert len(run.world.times("prepare")) == 2


@pytest.mark.parametrize(("pause", "phase"), [(0.0, Phase.CLEANING_UP), (0.5, Phase.FAILED)])
async def test_a_memory_of_one_runtime_model_is_not_used_for_another(
    pause: float, phase: Phase
) -> None:
    async with running() as run:
        rejected = Script(load=9.0, dies=1.0, report=REJECTED, clean_up=0.1)
        run.world.script("m", rejected, Script())
        with pytest.raises(ModelRejected):
            await run.pool.ensure("m", "org/bad")
        await asyncio.sleep(pause)
        assert run.phase("m") is phase
        ensured = await run.pool.ensure("m", "org/good")
        assert ensured.server.settings.runtime_model == "org/good"
        assert now() == pytest.approx(2.0 + max(pause, 0.1))


async def test_who_repairs_a_crash_need_not_name_the_runtime_model_again() -> None:
    async with running() as run:
        await run.pool.ensure("m", "/models/m")
        await crash(run)
        repaired = (await run.pool.ensure("m")).server
        assert (repaired.generation, repaired.settings.runtime_model) == (2, "/models/m")


async def test_another_runtime_model_does_not_wait_out_the_backoff_of_the_one_that_died() -> None:
    async with running(limits=SLOW) as run:
        await run.pool.ensure("m", "org/dies")
        await crash(run)
        begun = now()
        both = await asyncio.gather(
            run.pool.ensure("m", "org/good"), run.pool.ensure("m", "org/good")
        )
        assert now() == pytest.approx(begun + 1.0)
        assert {each.server.settings.runtime_model for each in both} == {"org/good"}


async def test_who_joins_a_backoff_must_want_what_comes_of_it() -> None:
    own = Settings(runtime_model="org/own", start_timeout=30.0)
    async with running(limits=SLOW, models={"m": own}) as run:
        run.world.script("m", KILLED_LOADING, Script())
        call = run.ensure()
        await asyncio.sleep(3)
        assert run.phase("m") is Phase.BACKING_OFF
        joined = run.ensure(runtime_model="org/own")
        refused = (await outcomes(run.pool.ensure("m", "org/other")))[0]
        assert getattr(refused, "reason", "") == "RUNTIME_MODEL_CONFLICT"
        assert (await joined).server == (await call).server


async def test_a_backoff_takes_no_slot_of_the_starts() -> None:
    async with running(limits=replace(SLOW, max_starts=1)) as run:
        run.world.script("m", KILLED_LOADING, Script())
        call = run.ensure()
        await asyncio.sleep(2.5)
        await run.pool.ensure("other")
        assert now() == pytest.approx(3.5)
        await call


async def test_the_last_exit_outlives_an_eviction() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.evict("m")
        ensured = await run.pool.ensure("m")
        assert ensured.server.last_exit is not None
        assert ensured.server.last_exit.cause is Cause.EVICTED
        assert ensured.server.last_exit.generation == 1


async def test_a_queued_server_shows_the_generation_that_it_starts_as() -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        await run.pool.ensure("m")
        await run.pool.evict("m")
        run.world.script("slow", Script(load=NEVER))
        first, second = run.ensure("slow"), run.ensure("m")
        await asyncio.sleep(0.1)
        assert (run.phase("m"), run.server("m").generation) == (Phase.QUEUED, 2)
        first.cancel()
        await run.pool.evict("slow", force=True)
        assert (await second).server.generation == 2
