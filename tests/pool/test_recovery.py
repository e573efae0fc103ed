"""Claims about what the next service makes of what an earlier one left, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.errors import CrashLoop, StartTimeout
from pool_service.core.server import Cause, LastRun, Phase, Server, StopSignal
from pool_service.core.types import FOREVER
from tests.pool.holds import holding
from tests.pool.running import LIMITS, now, running
from tests.world import CRASH, KILLED, NEVER, Script, outcomes, settled

pytestmark = pytest.mark.looptime


async def test_what_was_ready_is_ready_again_with_its_process_its_endpoint_and_its_times() -> None:
    async with running() as run:
        before = (await run.pool.ensure("m")).server
        await asyncio.sleep(100)
        await run.restart()
        assert now() == pytest.approx(101.0)
        server = run.server("m")
        assert server.phase is Phase.READY
        same = ("identity", "endpoint", "generation", "log_path", "plan", "settings", "keep_alive")
        for name in (*same, "created_at", "spawned_at", "ready_at", "last_used_at"):
            assert getattr(server, name) == getattr(before, name), name
        ensured = await run.pool.ensure("m")
        assert not ensured.started
        assert len(run.world.times("spawn")) == 1
        assert run.world.signals("m") == []


async def test_many_are_taken_over_side_by_side() -> None:
    async with running() as run:
        run.world.default = Script(adopt=1.0)
        await asyncio.gather(*[run.pool.ensure(f"m{n}") for n in range(50)])
        begun = now()
        await run.restart()
        assert now() == pytest.approx(begun + 1.0)
        assert run.pool.totals().by_phase[Phase.READY] == 50


async def test_idle_times_go_on_over_the_restart() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(200)
        await run.restart()
        await asyncio.sleep(99.9)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(0.2)
        assert run.phase("m") is None


async def test_what_went_unused_while_the_service_was_away_does_not_go_at_once() -> None:
    async with running(keep_alive=300.0, grace_period=10.0) as run:
        await run.pool.ensure("m")
        await run.kill()
        await asyncio.sleep(4000)
        await run.start()
        await asyncio.sleep(9.9)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(0.2)
        assert run.phase("m") is None


async def test_a_formerly_held_server_is_not_evicted_before_its_holder_can_be_back() -> None:
    tight = replace(LIMITS, memory_budget=10)
    async with running(limits=tight, grace_period=0.0) as run:
        run.world.default = Script(needs=10, takes=10, load=1.0)
        async with holding(run, "held"):
            await asyncio.sleep(100)
            await run.restart()
        waiting = asyncio.create_task(run.pool.ensure("other"))
        await asyncio.sleep(1.0)
        async with holding(run, "held"):
            await asyncio.sleep(100)
            assert run.server("held").generation == 1
            assert not waiting.done()
        await waiting
        assert run.phase("held") is None


async def test_a_start_goes_on_within_what_is_left_of_its_limit() -> None:
    async with running(start_timeout=120.0) as run:
        run.world.script("m", Script(load=NEVER))
        first = run.ensure()
        await asyncio.sleep(50)
        await run.restart()
        assert first.cancelled()
        assert run.phase("m") is Phase.STARTING
        with pytest.raises(StartTimeout):
            await run.pool.ensure("m")
        assert now() == pytest.approx(120.0)


async def test_a_start_that_stands_still_under_the_next_service_is_ended_by_that() -> None:
    async with running(start_timeout=FOREVER) as run:
        run.world.script("m", Script(load=NEVER, reads_for=100.0, computes_for=100.0))
        run.ask()
        await asyncio.sleep(110)
        await run.kill()
        await asyncio.sleep(500)
        await run.start()
        with pytest.raises(StartTimeout, match="stood still for 60 s"):
            await run.pool.ensure("m")
        assert now() == pytest.approx(670.0, abs=1.1), "none of the time before counts"


async def test_a_start_that_became_ready_meanwhile_is_ready_whatever_its_limit() -> None:
    async with running(start_timeout=20.0) as run:
        run.world.script("m", Script(load=10.0))
        run.ask()
        await asyncio.sleep(1)
        await run.kill()
        await asyncio.sleep(500)
        await run.start()
        await asyncio.sleep(0.001)
        assert run.phase("m") is Phase.READY
        assert len(run.world.times("spawn")) == 1


async def test_callers_join_the_start_of_the_service_before() -> None:
    async with running() as run:
        run.world.script("m", Script(load=30.0))
        run.ask()
        await asyncio.sleep(10)
        await run.restart()
        answers = await asyncio.gather(run.pool.ensure("m"), run.pool.ensure("m"))
        assert now() == pytest.approx(30.0)
        assert [answer.started for answer in answers] == [False, False]
        assert {answer.server.generation for answer in answers} == {1}


async def test_a_spawn_that_nobody_saw_end_is_found_by_its_nonce() -> None:
    async with running() as run:
        run.world.script("m", Script(spawn=5.0, forks=True, load=3.0))
        run.ask()
        await asyncio.sleep(1)
        await run.restart()
        ensured = await run.pool.ensure("m")
        assert ensured.server.identity == run.world.of("m").identity
        assert (ensured.server.generation, ensured.server.log_path) == (1, "/logs/m/1")
        assert len(run.world.times("spawn")) == 1


async def test_a_spawn_that_never_came_to_be_is_dropped_and_its_generation_is_not_used_again() -> (
    None
):
    async with running() as run:
        run.world.script("m", Script(spawn=5.0), Script())
        run.ask()
        await asyncio.sleep(1)
        await run.restart()
        assert run.phase("m") is None
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_a_requested_stop_is_carried_out() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 30.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m", force=True))
        await asyncio.sleep(1)
        await run.restart()
        evicting.cancel()
        assert run.phase("m") is Phase.STOPPING
        await asyncio.sleep(30)
        assert run.phase("m") is None
        assert run.changes[-1].server.last_exit is not None
        assert run.changes[-1].server.last_exit.cause is Cause.EVICTED


async def test_a_requested_stop_before_the_spawn_is_carried_out() -> None:
    async with running() as run:
        run.world.script("m", Script(spawn=5.0, forks=True))
        call = run.ensure()
        await asyncio.sleep(1)
        evicting = asyncio.create_task(run.pool.evict("m"))
        await outcomes(call)
        await run.restart()
        evicting.cancel()
        await settled(lambda: run.phase("m") is None)
        assert [name for name, _ in run.world.signals("m")] == ["SIGTERM"]


async def test_a_harder_signal_is_not_taken_back() -> None:
    async with running(drain_timeout=10.0, stop_timeout=5.0) as run:
        deaf = {StopSignal.TERMINATE: NEVER, StopSignal.INTERRUPT: NEVER}
        run.world.script("m", Script(ends_on=deaf))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(11)
        await run.restart()
        evicting.cancel()
        await asyncio.sleep(10)
        assert [name for name, _ in run.world.signals("m")] == [
            "SIGTERM",
            "SIGINT",
            "SIGINT",
            "SIGKILL",
        ]


async def test_a_cleanup_is_repeated() -> None:
    async with running() as run:
        run.world.script("m", Script(clean_up=50.0), Script())
        await run.pool.ensure("m")
        run.world.of("m").end()
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.CLEANING_UP
        await run.kill()
        run.world.of("m").script.clean_up = 2.0
        await run.start()
        assert run.phase("m") is Phase.FAILED
        assert len(run.world.times("clean_up")) == 2
        assert run.server("m").last_exit is not None


async def test_how_a_server_failed_stays_known_for_as_long_as_it_would_have() -> None:
    async with running(limits=replace(LIMITS, failure_ttl=600.0)) as run:
        run.world.script("m", Script(dies=0.5), Script())
        await outcomes(run.pool.ensure("m"))
        await asyncio.sleep(300)
        failed = run.server("m")
        await run.restart()
        assert run.server("m") == failed
        await asyncio.sleep(300)
        assert run.phase("m") is None


async def test_a_loop_is_still_one_after_the_restart() -> None:
    async with running(limits=replace(LIMITS, crash_limit=2)) as run:
        run.world.script("m", Script(load=9.0, dies=1.0, report=KILLED))
        await outcomes(run.pool.ensure("m"))
        await run.restart()
        with pytest.raises(CrashLoop):
            await run.pool.ensure("m")
        await run.pool.evict("m")
        run.world.script("m", Script())
        assert (await run.pool.ensure("m")).server.generation == 3


async def test_a_backoff_whose_callers_went_with_the_service_is_a_failure_with_its_pause() -> None:
    async with running(limits=replace(LIMITS, backoff_initial=20.0)) as run:
        run.world.script("m", Script(load=9.0, dies=1.0, report=KILLED), Script())
        run.ask()
        await asyncio.sleep(2)
        retry_at = run.server("m").retry_at
        await run.restart()
        failed = run.server("m")
        assert failed.phase is Phase.FAILED
        assert failed.retry_at == pytest.approx(retry_at)
        await run.pool.ensure("m")
        assert now() == pytest.approx(retry_at + 1.0)


@pytest.mark.parametrize("script", [Script(prepare=50.0), Script()])
async def test_a_start_without_a_process_is_over_with_its_callers(script: Script) -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        run.world.script("slow", Script(prepare=100.0), Script())
        run.world.script("m", script)
        run.ask("slow")
        run.ask("m")
        await asyncio.sleep(0.5)
        await run.restart()
        assert run.pool.page(None, 10) == []
        assert not [e for e in run.world.records._unwritten.values() if isinstance(e, Server)]


async def test_generations_and_last_exits_outlive_the_server_and_the_service() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.evict("m")
        await run.restart()
        assert isinstance(run.world.records.disk["m"], LastRun)
        server = (await run.pool.ensure("m")).server
        assert server.generation == 2
        assert server.last_exit is not None
        assert (server.last_exit.generation, server.last_exit.cause) == (1, Cause.EVICTED)


async def test_a_generation_is_not_used_again_though_the_service_died_while_it_was_queued() -> None:
    async with running(limits=replace(LIMITS, max_starts=1)) as run:
        await run.pool.ensure("m")
        await run.pool.evict("m")
        run.world.script("slow", Script(load=NEVER))
        run.ask("slow")
        run.ask("m")
        await asyncio.sleep(0.5)
        await run.restart()
        await run.pool.evict("slow")
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_what_died_while_the_service_was_away_is_noticed_like_any_death() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.kill()
        run.world.of("m").end(CRASH)
        await run.start()
        failed = run.server("m")
        assert failed.phase is Phase.FAILED
        assert failed.last_exit is not None
        assert failed.last_exit.cause is Cause.CRASHED
        assert (failed.last_exit.report.code, failed.last_exit.report.signal) == (None, None)
        assert run.world.signals("m") == []
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_what_died_while_it_was_stopping_is_gone_and_is_not_signalled() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 30.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        await run.kill()
        evicting.cancel()
        run.world.of("m").end()
        await run.start()
        await settled(lambda: run.phase("m") is None)
        assert len(run.world.signals("m")) == 1


async def test_a_shutdown_after_the_restart_stops_what_was_taken_over() -> None:
    async with running() as run:
        await asyncio.gather(run.pool.ensure("a"), run.pool.ensure("b"))
        await run.restart()
        await run.pool.shutdown()
        assert run.world.living == []


async def test_what_others_do_to_an_adopted_server_is_noticed() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.restart()
        run.world.of("m").end(CRASH)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert run.phase("m") is not Phase.READY


async def test_a_start_whose_end_cannot_be_known_is_taken_as_killed_and_its_callers_stay() -> None:
    async with running() as run:
        run.world.script("m", Script(load=60.0, dies=10.0), Script())
        run.ask()
        await asyncio.sleep(5)
        await run.restart()
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_adopted_starts_take_their_slots() -> None:
    async with running(limits=replace(LIMITS, max_starts=2)) as run:
        for name in "ab":
            run.world.script(name, Script(load=30.0))
            run.ask(name)
        await asyncio.sleep(1)
        await run.restart()
        await run.pool.ensure("c")
        assert now() == pytest.approx(31.0)


async def test_a_damaged_record_does_not_keep_the_others_from_being_found() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        run.world.records.damaged = ("records/x.json",)
        await run.restart()
        assert run.phase("m") is Phase.READY
