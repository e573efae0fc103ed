"""Claims about how servers end, crash and are forgotten, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.errors import ShuttingDown, StartFailed
from pool_service.core.lifecycle import ESCALATION_PAUSE_S
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.types import FOREVER, Diagnosis, ExitReport
from tests.pool.running import LIMITS, now, running
from tests.world import CRASH, NEVER, Script, outcomes

pytestmark = pytest.mark.looptime

DEAF = {StopSignal.TERMINATE: NEVER, StopSignal.INTERRUPT: NEVER}


async def test_evict_returns_when_the_process_is_cleaned_up() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 3.0}, clean_up=2.0))
        await run.pool.ensure("m")
        removed = await run.pool.evict("m")
        assert now() == pytest.approx(6.0)
        assert not removed[0].killed
        last_exit = removed[0].server.last_exit
        assert last_exit is not None
        assert (last_exit.generation, last_exit.cause) == (1, Cause.EVICTED)


async def test_what_is_in_flight_has_the_whole_drain_limit() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 59.9}))
        await run.pool.ensure("m")
        removed = await run.pool.evict("m", force=True)
        assert [name for name, _ in run.world.signals("m")] == ["SIGTERM"]
        assert not removed[0].killed


async def test_the_signals_harden_at_their_limits_and_the_kill_is_reported() -> None:
    async with running(drain_timeout=60.0, stop_timeout=5.0) as run:
        run.world.script("m", Script(ends_on=DEAF))
        await run.pool.ensure("m")
        removed = await run.pool.evict("m")
        assert run.world.signals("m") == [
            ("SIGTERM", pytest.approx(1.0)),
            ("SIGINT", pytest.approx(61.0)),
            ("SIGKILL", pytest.approx(66.0)),
        ]
        assert removed[0].killed
        assert "SIGKILL" in removed[0].server.detail


async def test_a_start_that_is_ended_has_nothing_to_drain() -> None:
    async with running(drain_timeout=60.0, stop_timeout=5.0) as run:
        run.world.script("m", Script(load=50.0, ends_on=DEAF))
        call = run.ensure()
        await asyncio.sleep(1)
        await run.pool.evict("m")
        assert [at for _, at in run.world.signals("m")] == pytest.approx([1.0, 6.0, 11.0])
        await outcomes(call)


async def test_a_process_that_outlives_a_kill_is_killed_again() -> None:
    async with running(drain_timeout=60.0, stop_timeout=5.0) as run:
        stuck = {**DEAF, StopSignal.KILL: 12.0}
        run.world.script("m", Script(ends_on=stuck))
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert [name for name, _ in run.world.signals("m")][2:] == ["SIGKILL"] * 3


async def test_a_signal_that_breaks_is_followed_by_the_next() -> None:
    async with running() as run:
        run.world.script("m", Script(raises={"signal": ZeroDivisionError()}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(100)
        assert [name for name, _ in run.world.signals("m")][:3] == ["SIGTERM", "SIGINT", "SIGKILL"]
        run.world.of("m").end()
        await evicting


async def test_a_cleanup_that_fails_does_not_delay_the_next_generation() -> None:
    async with running() as run:
        run.world.script("m", Script(raises={"clean_up": ZeroDivisionError()}), Script())
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_an_ensure_during_a_stop_waits_for_the_next_generation() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 20.0}, clean_up=5.0), Script())
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(10)
        ensured = await run.pool.ensure("m")
        assert now() == pytest.approx(27.0)
        assert ensured.started
        assert ensured.server.generation == 2
        assert len(await evicting) == 1


async def test_concurrent_evicts_are_answered_by_one_stop() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 20.0}))
        await run.pool.ensure("m")
        both = await asyncio.gather(run.pool.evict("m"), run.pool.evict(Every.ALL))
        assert [[each.server.model for each in removed] for removed in both] == [["m"], ["m"]]
        assert len(run.world.signals("m")) == 1


async def test_a_crashed_server_is_failed_with_its_exit_and_the_next_ensure_replaces_it() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=30.0, report=CRASH), Script())
        first = await run.pool.ensure("m")
        await asyncio.sleep(30)
        failed = run.server("m")
        assert failed.phase is Phase.FAILED
        assert failed.detail == CRASH.message
        assert failed.last_exit is not None
        assert (failed.last_exit.cause, failed.last_exit.report) == (Cause.CRASHED, CRASH)
        assert (failed.identity, failed.endpoint) == (None, "")
        again = await run.pool.ensure("m")
        assert again.started
        assert again.server.generation == first.server.generation + 1
        assert again.server.last_exit == failed.last_exit


async def test_a_crash_while_an_eviction_asks_how_busy_it_is_answers_the_eviction() -> None:
    async with running() as run:
        run.world.script("m", Script(check=20.0))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        run.world.of("m").end()
        assert [each.server.model for each in await evicting] == ["m"]
        assert run.phase("m") is None


async def test_a_crash_while_it_is_asked_how_busy_it_is_leaves_the_next_generation_evictable() -> (
    None
):
    async with running(keep_alive=30.0) as run:
        run.world.script("m", Script(check=20.0), Script())
        await run.pool.ensure("m")
        await asyncio.sleep(31)
        run.world.of("m").end()
        await asyncio.sleep(0.1)
        await run.pool.ensure("m")
        await asyncio.sleep(30.1)
        assert run.phase("m") is None


async def test_a_failed_server_is_forgotten_after_its_time() -> None:
    async with running(limits=replace(LIMITS, failure_ttl=600.0)) as run:
        run.world.script("m", Script(dies=0.5))
        await outcomes(run.pool.ensure("m"))
        await asyncio.sleep(599.9)
        assert run.phase("m") is Phase.FAILED
        await asyncio.sleep(0.2)
        assert run.phase("m") is None


async def test_generations_go_on_after_a_server_was_forgotten() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.pool.evict("m")
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_evicting_a_failed_server_forgets_it() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=0.5))
        await outcomes(run.pool.ensure("m"))
        await asyncio.sleep(0)
        assert len(await run.pool.evict("m")) == 1
        assert run.phase("m") is None


async def test_a_service_that_shuts_down_answers_everybody_and_drains() -> None:
    async with running(limits=replace(LIMITS, max_starts=2)) as run:
        run.world.script("ready", Script(requests=1, ends_on={StopSignal.TERMINATE: 40.0}))
        run.world.script("loads", Script(load=500.0))
        run.world.script("prepares", Script(prepare=500.0))
        await run.pool.ensure("ready")
        calls = [run.ensure(name) for name in ("loads", "prepares", "queued")]
        await asyncio.sleep(1)
        begun = now()
        ending = asyncio.create_task(run.pool.shutdown())
        failures = await outcomes(*calls)
        assert now() == begun
        assert all(isinstance(failure, ShuttingDown) for failure in failures)
        assert isinstance((await outcomes(run.pool.ensure("late")))[0], ShuttingDown)
        await ending
        assert now() == pytest.approx(begun + 40.0)
        assert run.pool.page(None, 10) == []


async def test_a_shutdown_during_an_eviction_answers_both() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 5.0}))
        await run.pool.ensure("m")
        removed, _ = await asyncio.gather(run.pool.evict("m"), run.pool.shutdown())
        assert [each.server.model for each in removed] == ["m"]


async def test_a_shutdown_does_not_start_what_waited_for_a_stop() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 20.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(1)
        call = run.ensure()
        await asyncio.sleep(1)
        await run.pool.shutdown()
        assert isinstance((await outcomes(call))[0], ShuttingDown)
        await evicting
        assert len(run.world.times("spawn")) == 1


async def test_an_escalation_sends_the_next_signal_at_once() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: NEVER}))
        await run.pool.ensure("m")
        ending = asyncio.create_task(run.pool.shutdown())
        await asyncio.sleep(2)
        run.pool.escalate()
        await ending
        assert run.world.signals("m") == [
            ("SIGTERM", pytest.approx(1.0)),
            ("SIGINT", pytest.approx(3.0)),
        ]


async def test_an_escalation_before_the_shutdown_is_remembered() -> None:
    async with running() as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: NEVER}))
        await run.pool.ensure("m")
        run.pool.escalate()
        await run.pool.shutdown()
        (first, _), (second, at) = run.world.signals("m")
        assert (first, second) == ("SIGTERM", "SIGINT")
        assert at == pytest.approx(1.0 + ESCALATION_PAUSE_S)
    details = [change.server.detail for change in run.changes]
    assert any("escalated: SIGINT" in detail for detail in details)
    assert not any("in time" in detail for detail in details)


async def test_a_process_that_starts_after_the_escalation_is_escalated_too() -> None:
    async with running() as run:
        run.world.script("m", Script(spawn=5.0, ends_on={StopSignal.TERMINATE: NEVER}))
        call = run.ensure()
        await asyncio.sleep(1)
        ending = asyncio.create_task(run.pool.shutdown())
        await asyncio.sleep(1)
        run.pool.escalate()
        await ending
        await outcomes(call)
        assert run.world.signals("m") == [
            ("SIGTERM", pytest.approx(5.0)),
            ("SIGINT", pytest.approx(5.0 + ESCALATION_PAUSE_S)),
        ]


async def test_an_escalation_leaves_other_servers_alone() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        run.pool.escalate()
        await asyncio.sleep(1)
        assert run.world.signals("m") == []


async def test_a_failure_while_others_start_touches_only_its_own_waiters() -> None:
    async with running() as run:
        run.world.script("bad", Script(dies=0.5))
        bad, good = await outcomes(run.pool.ensure("bad"), run.pool.ensure("good"))
        assert isinstance(bad, StartFailed)
        assert not isinstance(good, Exception)


# --- a runtime that does not drain -------------------------------------------------------------


async def test_what_is_in_flight_ends_before_the_signal_where_the_runtime_would_cut_it() -> None:
    async with running(drain_timeout=60.0) as run:
        busy = Script(requests=2, drains=False)
        run.world.script("m", busy, Script())
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m", force=True))
        await asyncio.sleep(30)
        assert run.world.signals("m") == []
        server = run.server("m")
        assert (server.phase, server.detail) == (
            Phase.STOPPING,
            "it was evicted; waits for what is in flight",
        )
        # Nobody is given it any more.
        asked = run.ensure("m")
        busy.requests = 0
        (removed,) = await evicting
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(31.0, abs=1.1))]
        assert not removed.killed
        assert (await asked).server.generation == 2


async def test_an_idle_one_gets_its_signal_without_delay() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(drains=False))
        await run.pool.ensure("m")
        await run.pool.evict("m", force=True)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(1.0))]


@pytest.mark.parametrize("requests", [1, None])
async def test_the_wait_for_what_is_in_flight_has_its_limit(requests: int | None) -> None:
    async with running(drain_timeout=60.0, stop_timeout=5.0) as run:
        run.world.script("m", Script(requests=requests, drains=False, ends_on=DEAF))
        await run.pool.ensure("m")
        (removed,) = await run.pool.evict("m", force=True)
        assert run.world.signals("m") == [
            ("SIGTERM", pytest.approx(61.0)),
            ("SIGINT", pytest.approx(66.0)),
            ("SIGKILL", pytest.approx(71.0)),
        ]
        assert removed.killed
        # Not without a pause, and not much longer than it must wait.
        assert 50 < len(run.world.times("check", "m")) < 100


async def test_a_shutdown_waits_for_requests_in_flight_and_a_forced_one_does_not() -> None:
    async with running(drain_timeout=60.0, stop_timeout=5.0) as run:
        run.world.script("m", Script(requests=1, drains=False))
        await run.pool.ensure("m")
        stopping = asyncio.create_task(run.pool.shutdown())
        await asyncio.sleep(20)
        assert run.world.signals("m") == []
        run.pool.escalate()
        await stopping
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(21.0))]


async def test_a_wedged_server_is_not_waited_for() -> None:
    looking = replace(LIMITS, probe_interval=15.0, probe_limit=5)
    async with running(limits=looking, keep_alive=FOREVER, drain_timeout=60.0) as run:
        stuck = Script(requests=1, drains=False, answers=False, moves=False)
        run.world.script("m", stuck, Script())
        await run.pool.ensure("m")
        await asyncio.sleep(100)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(75.0, abs=16.0))]
        assert run.world.times("check", "m") == []


async def test_one_that_dies_while_it_is_waited_for_is_gone() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(requests=1, drains=False, dies=10.0))
        await run.pool.ensure("m")
        (removed,) = await run.pool.evict("m", force=True)
        assert now() == pytest.approx(10.0)
        assert run.world.signals("m") == []
        assert not removed.killed


async def test_a_check_that_fails_ends_nothing() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(drains=False, raises={"check": ZeroDivisionError()}))
        await run.pool.ensure("m")
        await run.pool.evict("m", force=True)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(61.0))]


async def test_time_in_which_the_service_was_away_is_not_taken_from_what_is_in_flight() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(requests=1, drains=False))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m", force=True))
        await asyncio.sleep(10)
        run.world.clock.jump(1000.0)
        await asyncio.sleep(49)
        assert run.world.signals("m") == []
        await evicting


# --- what a process leaves behind --------------------------------------------------------------


async def test_what_it_left_behind_has_what_is_left_of_its_time() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 10.0}, kin_busy=NEVER))
        await run.pool.ensure("m")
        (removed,) = await run.pool.evict("m", force=True)
        assert now() == pytest.approx(61.0)
        assert not removed.killed


async def test_what_it_left_behind_is_waited_for_no_longer_than_it_works() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(kin_busy=7.0))
        await run.pool.ensure("m")
        await run.pool.evict("m", force=True)
        assert now() == pytest.approx(8.0)


async def test_that_what_it_left_behind_was_killed_is_reported() -> None:
    async with running() as run:
        run.world.script("m", Script(kin_killed=True))
        await run.pool.ensure("m")
        (removed,) = await run.pool.evict("m", force=True)
        assert removed.killed


async def test_a_crashed_server_leaves_nothing_to_wait_for_unless_a_stop_was_requested() -> None:
    told = ExitReport(None, 15, Diagnosis.CRASHED, "The runtime was ended by SIGTERM")
    for report, waits in ((CRASH, 0.0), (told, 60.0)):
        async with running(drain_timeout=60.0) as run:
            run.world.script("m", Script(dies=10.0, report=report, kin_busy=NEVER), Script())
            await run.pool.ensure("m")
            await asyncio.sleep(10)
            begun = now()
            await run.pool.ensure("m")
            assert now() - begun == pytest.approx(waits + 1.0, abs=2.0)


async def test_an_escalation_waits_no_longer_for_leftover_processes() -> None:
    async with running(drain_timeout=60.0) as run:
        run.world.script("m", Script(kin_busy=NEVER))
        await run.pool.ensure("m")
        stopping = asyncio.create_task(run.pool.shutdown())
        await asyncio.sleep(5)
        run.pool.escalate()
        await stopping
        assert now() == pytest.approx(6.0)
