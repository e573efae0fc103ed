"""Claims about how servers start, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.errors import (
    Evicted,
    ModelRejected,
    PoolError,
    RuntimeModelConflict,
    RuntimeUnavailable,
    StartFailed,
    StartTimeout,
)
from pool_service.core.liveness import WORKING_SHARE
from pool_service.core.results import Ensured
from pool_service.core.sampler import FAST_PAUSE_S
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.stall import COMPUTING_LIMIT_S
from pool_service.core.timers import LOG_TIMEOUT_S
from pool_service.core.types import FOREVER
from tests.pool.running import LIMITS, now, running
from tests.world import CRASH, NEVER, PORT_TAKEN, REJECTED, Script, outcomes

pytestmark = pytest.mark.looptime


async def test_an_ensure_returns_a_ready_server_as_soon_as_it_answers() -> None:
    async with running() as run:
        run.world.script("m", Script(prepare=0.5, spawn=0.25, load=2.0))
        ensured = await run.pool.ensure("m")
        assert now() == pytest.approx(2.75)
        assert ensured.started
        assert ensured.server.phase is Phase.READY
        assert ensured.server.endpoint == "http://127.0.0.1:1000"
        assert ensured.server.generation == 1
        await asyncio.sleep(0)
        assert run.phases() == [
            Phase.QUEUED,
            Phase.PREPARING,
            Phase.SPAWNING,
            Phase.STARTING,
            Phase.READY,
        ]


async def test_concurrent_ensures_share_one_start() -> None:
    async with running() as run:
        answers = await asyncio.gather(*[run.pool.ensure("m") for _ in range(50)])
        assert {answer.server for answer in answers} == {run.server("m")}
        assert [answer.started for answer in answers] == [True] + [False] * 49
        assert len(run.world.times("spawn")) == 1


async def test_ten_thousand_waiters_are_answered_by_one_start() -> None:
    async with running() as run:
        run.world.script("m", Script(load=30.0))
        answers = await asyncio.gather(*[run.pool.ensure("m") for _ in range(10_000)])
        assert now() == pytest.approx(30.0)
        assert {answer.server.identity for answer in answers} == {run.server("m").identity}
        assert len(run.world.times("spawn")) == 1
        assert run.pool.totals().waiting_calls == 0


async def test_a_ready_server_is_handed_out_at_once() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        before = now()
        again = await run.pool.ensure("m")
        assert now() == before
        assert not again.started
        assert len(run.world.times("spawn")) == 1


async def test_a_caller_that_gives_up_never_aborts_anothers_start() -> None:
    async with running() as run:
        run.world.script("m", Script(load=10.0))
        first, second = run.ensure(), run.ensure()
        await asyncio.sleep(5)
        first.cancel()
        assert (await second).server.phase is Phase.READY
        assert now() == pytest.approx(10.0)
        assert first.cancelled()


async def test_a_start_goes_on_when_all_its_callers_gave_up() -> None:
    async with running() as run:
        run.world.script("m", Script(load=10.0))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.pool.ensure("m"), 5)
        assert run.pool.totals().waiting_calls == 0
        await asyncio.sleep(5.001)
        assert run.phase("m") is Phase.READY
        assert not (await run.pool.ensure("m")).started


async def test_a_queued_start_that_nobody_wants_is_dropped() -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        first, second = run.ensure("a"), run.ensure("b")
        await asyncio.sleep(0.5)
        assert run.phase("b") is Phase.QUEUED
        second.cancel()
        await asyncio.sleep(0)
        assert run.phase("b") is None
        await first
        await asyncio.sleep(10)
        assert run.world.times("prepare", "b") == []


async def test_five_models_start_side_by_side_and_the_sixth_waits() -> None:
    async with running(limits=replace(LIMITS, max_starts=5)) as run:
        for name in "abcdef":
            run.world.script(name, Script(load=10.0))
        done: dict[str, float] = {}

        async def timed(name: str) -> None:
            await run.pool.ensure(name)
            done[name] = now()

        await asyncio.gather(*[timed(name) for name in "abcdef"])
        assert [done[name] for name in "abcde"] == pytest.approx([10.0] * 5)
        assert done["f"] == pytest.approx(20.0)
        spawned = {call.model: call.at for call in run.world.times("spawn")}
        assert [spawned[name] for name in "abcde"] == pytest.approx([0.0] * 5)
        assert spawned["f"] == pytest.approx(10.0)


async def test_the_queue_is_served_in_the_order_of_asking() -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        await asyncio.gather(*[run.pool.ensure(name) for name in ("d", "b", "c", "a")])
        assert [call.model for call in run.world.times("spawn")] == ["d", "b", "c", "a"]


async def test_a_failed_start_frees_its_slot_for_the_next() -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        run.world.script("a", Script(dies=1.0))
        first, second = run.ensure("a"), run.ensure("b")
        assert isinstance((await outcomes(first))[0], StartFailed)
        await second
        assert run.world.times("spawn", "b")[0].at == pytest.approx(1.0)


async def test_a_log_that_cannot_be_read_holds_up_no_answer_for_long() -> None:
    async with running(start_timeout=120.0) as run:
        run.world.script("m", Script(load=NEVER, raises={"last_lines": ZeroDivisionError()}))
        (told,) = await outcomes(run.pool.ensure("m"))
        assert isinstance(told, StartTimeout)
        assert now() == pytest.approx(120.0 + LOG_TIMEOUT_S)


async def test_a_server_that_is_ready_while_its_log_is_read_is_handed_out() -> None:
    async with running(start_timeout=120.0) as run:
        run.world.script("m", Script(load=120.2, log=0.5))
        ensured = await run.pool.ensure("m")
        assert now() == pytest.approx(120.2)
        await asyncio.sleep(1)
        assert run.server("m").identity == ensured.server.identity
        assert run.phase("m") is Phase.READY


async def test_the_start_limit_ends_a_start_and_answers_its_waiters_at_once() -> None:
    async with running(start_timeout=120.0) as run:
        run.world.script(
            "m", Script(prepare=3.0, load=NEVER, ends_on={StopSignal.TERMINATE: 4.0}), Script()
        )
        waiting = [run.ensure() for _ in range(3)]
        failures = await outcomes(*waiting)
        assert now() == pytest.approx(123.0)
        timeouts = [failure for failure in failures if isinstance(failure, StartTimeout)]
        assert len(timeouts) == 3
        assert "120 s" in str(failures[0])
        assert "/logs/m/1" in str(failures[0])
        assert {each.last_lines for each in timeouts} == {("/logs/m/1: still loading",)}
        assert run.phase("m") is Phase.STOPPING
        await asyncio.sleep(4.001)
        failed = run.server("m")
        assert failed.phase is Phase.FAILED
        assert failed.last_exit is not None
        assert failed.last_exit.cause is Cause.START_TIMEOUT
        await asyncio.sleep(LIMITS.failure_memory)
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_a_load_that_goes_on_may_take_any_time() -> None:
    async with running(start_timeout=FOREVER) as run:
        run.world.script("m", Script(load=1500.0))
        assert (await run.pool.ensure("m")).server.phase is Phase.READY
        assert now() == pytest.approx(1500.0)


@pytest.mark.parametrize(
    ("script", "after"),
    [
        (Script(load=NEVER, reads_for=0.0, computes_for=0.0), 60.0),
        (Script(load=NEVER, reads_for=300.0, computes_for=300.0), 360.0),
        (Script(load=NEVER, reads_for=0.0), COMPUTING_LIMIT_S + 60.0),
    ],
)
async def test_a_start_that_stands_still_is_ended_long_before_anybody_loses_patience(
    script: Script, after: float
) -> None:
    async with running(start_timeout=FOREVER) as run:
        run.world.script("m", script)
        (error,) = await outcomes(run.pool.ensure("m"))
        assert isinstance(error, StartTimeout)
        assert now() == pytest.approx(after, abs=WORKING_SHARE * 60.0 + 2 * FAST_PAUSE_S)
        assert error.last_lines == ("/logs/m/1: still loading",)
        (later,) = await outcomes(run.pool.ensure("m"))
        assert str(later) == str(error), "who asks while it ends is told the same"
        assert "s of processor time" in run.server("m").detail


async def test_a_start_is_not_held_to_account_for_a_machine_that_slept() -> None:
    async with running(start_timeout=FOREVER) as run:
        run.world.script("m", Script(load=100.0, reads_for=50.0, computes_for=50.0))
        call = run.ensure()
        await asyncio.sleep(60)
        run.world.clock.jump(86_400.0)
        await call
        assert run.phase("m") is Phase.READY


async def test_the_second_load_of_a_model_is_expected_to_take_what_the_first_took() -> None:
    async with running(keep_alive=0.0) as run:
        run.world.script("m", Script(load=30.0))
        await run.pool.ensure("m")
        await asyncio.sleep(60)
        assert run.phase("m") is None
        begun, known = now(), len(run.changes)
        ready = (await run.pool.ensure("m")).server
        assert ready.expected_ready_at is None
        told = [one.server for one in run.changes[known:]]
        loading = [one for one in told if one.phase is Phase.STARTING]
        assert [one.expected_ready_at for one in loading] == [pytest.approx(begun + 30.0)]


async def test_the_time_of_a_load_is_without_that_in_which_the_machine_slept() -> None:
    async with running() as run:
        run.world.script("m", Script(load=30.0))
        call = run.ensure()
        await asyncio.sleep(10)
        run.world.clock.jump(3600.0)
        await call
        assert run.world.recorded_loads == {"m": pytest.approx(30.0)}


async def test_becoming_ready_just_before_the_limit_is_in_time() -> None:
    async with running(start_timeout=120.0) as run:
        run.world.script("m", Script(load=119.99))
        assert (await run.pool.ensure("m")).server.phase is Phase.READY
        await asyncio.sleep(100)
        assert run.phase("m") is Phase.READY


async def test_a_child_that_exits_during_its_start_answers_at_once() -> None:
    async with running() as run:
        run.world.script("m", Script(load=60.0, dies=2.0, report=CRASH, clean_up=30.0))
        failures = await outcomes(run.pool.ensure("m"), run.pool.ensure("m"))
        assert now() == pytest.approx(2.0)
        for failure in failures:
            assert isinstance(failure, StartFailed)
            assert failure.last_lines == ("boom",)
            assert "exited with code 1" in str(failure)


async def test_a_refused_model_is_distinguished_from_a_crash() -> None:
    async with running() as run:
        run.world.script("m", Script(load=60.0, dies=2.0, report=REJECTED))
        with pytest.raises(ModelRejected, match="there is no such model") as caught:
            await run.pool.ensure("m")
        assert caught.value.last_lines == ("no config.json",)


@pytest.mark.parametrize("step", ["estimate", "prepare", "spawn"])
async def test_a_start_that_is_refused_before_it_has_a_process_leaves_no_server(step: str) -> None:
    async with running() as run:
        refusal = RuntimeUnavailable("no vllm-mlx")
        run.world.script("m", Script(raises={step: refusal}), Script())
        with pytest.raises(RuntimeUnavailable, match="no vllm-mlx"):
            await run.pool.ensure("m")
        assert run.phase("m") is None
        await asyncio.sleep(0)
        last = run.changes[-1]
        assert (last.removed, last.server.detail) == (True, "no vllm-mlx")


async def test_the_error_of_a_failed_start_is_remembered_for_a_moment() -> None:
    """Unless it was evicted meanwhile, or is asked for as another runtime model."""
    async with running() as run:
        refusal = RuntimeUnavailable("no vllm-mlx")
        run.world.script("m", *[Script(raises={"prepare": refusal}) for _ in range(4)], Script())
        for _ in range(5):
            with pytest.raises(RuntimeUnavailable):
                await run.pool.ensure("m")
        assert len(run.world.times("prepare")) == 1
        with pytest.raises(RuntimeUnavailable):
            await run.pool.ensure("m", "another")
        assert len(run.world.times("prepare")) == 2
        await run.pool.evict("m")
        with pytest.raises(RuntimeUnavailable):
            await run.pool.ensure("m")
        await asyncio.sleep(LIMITS.failure_memory)
        with pytest.raises(RuntimeUnavailable):
            await run.pool.ensure("m")
        assert len(run.world.times("prepare")) == 4


async def test_a_server_that_died_stays_failed_when_the_next_start_is_refused() -> None:
    async with running() as run:
        gone = RuntimeUnavailable("no vllm-mlx")
        run.world.script("m", Script(load=9.0, dies=1.0), Script(raises={"prepare": gone}))
        with pytest.raises(StartFailed):
            await run.pool.ensure("m")
        await asyncio.sleep(LIMITS.backoff_max)
        with pytest.raises(RuntimeUnavailable):
            await run.pool.ensure("m")
        assert run.phase("m") is Phase.FAILED


async def test_a_spawn_that_fails_leaves_nothing_to_clean_up() -> None:
    async with running() as run:
        run.world.script("m", Script(raises={"spawn": StartFailed("no descriptors")}), Script())
        with pytest.raises(StartFailed, match="no descriptors"):
            await run.pool.ensure("m")
        assert run.world.times("clean_up") == []
        await asyncio.sleep(LIMITS.failure_memory)
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_each_waiter_gets_an_exception_of_its_own() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=0.5))
        failures = await outcomes(run.pool.ensure("m"), run.pool.ensure("m"))
        assert failures[0] is not failures[1]
        assert str(failures[0]) == str(failures[1])


async def test_a_lost_port_costs_another_process_and_no_waiter() -> None:
    async with running() as run:
        lost = Script(load=9.0, dies=2.0, report=PORT_TAKEN)
        run.world.script("m", lost, lost, Script(load=3.0))
        answers = await asyncio.gather(run.pool.ensure("m"), run.pool.ensure("m"))
        assert now() == pytest.approx(7.0)
        assert {answer.server.generation for answer in answers} == {3}
        assert [answer.started for answer in answers] == [True, False]


async def test_ports_are_lost_only_so_often() -> None:
    async with running(limits=replace(LIMITS, port_attempts=5)) as run:
        run.world.script("m", Script(load=9.0, dies=2.0, report=PORT_TAKEN))
        with pytest.raises(StartFailed, match="port was taken"):
            await run.pool.ensure("m")
        assert now() == pytest.approx(10.0)
        assert len(run.world.times("spawn")) == 5


async def test_a_start_after_one_that_lost_all_its_ports_has_all_its_attempts_again() -> None:
    async with running(limits=replace(LIMITS, port_attempts=3)) as run:
        lost = Script(load=9.0, dies=2.0, report=PORT_TAKEN, clean_up=1.0)
        run.world.script("m", lost, lost, lost, lost, Script())
        with pytest.raises(StartFailed):
            await run.pool.ensure("m")
        assert run.phase("m") is Phase.CLEANING_UP
        assert (await run.pool.ensure("m")).server.generation == 5


async def test_another_runtime_model_is_refused_while_one_runs() -> None:
    async with running() as run:
        ensured = await run.pool.ensure("m", "org/one")
        assert ensured.server.settings.runtime_model == "org/one"
        with pytest.raises(RuntimeModelConflict) as caught:
            await run.pool.ensure("m", "org/two")
        assert (caught.value.running, caught.value.asked) == ("org/one", "org/two")
        assert not (await run.pool.ensure("m", "org/one")).started
        assert not (await run.pool.ensure("m")).started


async def test_another_runtime_model_is_refused_while_one_starts() -> None:
    async with running() as run:
        first = run.ensure(runtime_model="org/one")
        await asyncio.sleep(0.5)
        with pytest.raises(RuntimeModelConflict):
            await run.pool.ensure("m", "org/two")
        await first


async def test_the_next_generation_may_run_another_runtime_model() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 2.0}))
        await run.pool.ensure("m", "org/one")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.STOPPING
        two, three = run.ensure(runtime_model="org/two"), run.ensure(runtime_model="org/three")
        assert (await two).server.settings.runtime_model == "org/two"
        assert isinstance((await outcomes(three))[0], RuntimeModelConflict)
        await evicting


async def test_who_asked_for_a_runtime_model_gets_it_though_the_first_who_did_gave_up() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 2.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        first = run.ensure(runtime_model="org/x")
        await asyncio.sleep(0.1)
        whichever = run.ensure()
        last = run.ensure(runtime_model="org/x")
        await asyncio.sleep(0.1)
        first.cancel()
        assert (await last).server.settings.runtime_model == "org/x"
        assert (await whichever).server == (await last).server
        await evicting


async def test_an_evict_during_a_start_answers_evicted() -> None:
    for script in (
        Script(prepare=10.0),
        Script(spawn=10.0),
        Script(load=10.0),
    ):
        async with running() as run:
            run.world.script("m", script)
            begun = now()
            waiting = [run.ensure(), run.ensure()]
            await asyncio.sleep(1)
            evicting = asyncio.create_task(run.pool.evict("m"))
            failures = await outcomes(*waiting)
            assert now() == pytest.approx(begun + 1.0)
            assert all(isinstance(failure, Evicted) for failure in failures)
            assert [removed.server.model for removed in await evicting] == ["m"]
            assert run.phase("m") is None
            assert not run.world.living


async def test_an_evict_gives_up_what_is_prepared_at_once() -> None:
    async with running() as run:
        run.world.script("m", Script(prepare=500.0))
        call = run.ensure()
        await asyncio.sleep(1)
        assert "Prepare m #1" in {task.get_name() for task in asyncio.all_tasks()}
        await run.pool.evict("m")
        await outcomes(call)
        assert "Prepare m #1" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_an_evict_of_a_queued_start_answers_evicted() -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        first, second = run.ensure("a"), run.ensure("b")
        await asyncio.sleep(0.1)
        await run.pool.evict("b")
        assert isinstance((await outcomes(second))[0], Evicted)
        await first


@pytest.mark.parametrize("step", ["prepare", "spawn", "ready"])
async def test_a_step_that_breaks_is_survived_and_reported_as_internal(step: str) -> None:
    async with running() as run:
        run.world.script("m", Script(raises={step: ZeroDivisionError("secret")}), Script())
        failures = await outcomes(run.pool.ensure("m"), run.pool.ensure("m"))
        for failure in failures:
            assert type(failure) is PoolError
            assert failure.reason == "INTERNAL"
            assert "secret" not in str(failure)
        await asyncio.sleep(LIMITS.failure_memory)
        assert (await run.pool.ensure("m")).server.phase is Phase.READY


@pytest.mark.parametrize("step", ["prepare", "spawn", "ready", "exited"])
async def test_a_step_that_is_cancelled_unasked_answers_its_waiters(step: str) -> None:
    async with running() as run:
        run.world.script("m", Script(raises={step: asyncio.CancelledError()}), Script())
        failure = (await outcomes(asyncio.wait_for(run.pool.ensure("m"), 1000)))[0]
        assert isinstance(failure, PoolError)
        assert now() < 100
        await asyncio.sleep(LIMITS.failure_memory)
        assert isinstance(await run.pool.ensure("m"), Ensured)
