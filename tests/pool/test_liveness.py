"""Claims about wedged servers, and about a service that was away itself, in virtual time."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from pool_service.core.errors import StartTimeout
from pool_service.core.readiness import MAX_PROBES_PER_S, PROBES_AT_ONCE
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.types import FOREVER
from pool_service.pool import SUSPENSION_S
from tests.pool.running import LIMITS, now, running
from tests.world import NEVER, Script, outcomes

pytestmark = pytest.mark.looptime

LOOKING = replace(LIMITS, probe_interval=15.0, probe_limit=4)
WEDGED = Script(load=0.0, answers=False, moves=False, requests=None)
VERDICT = 15.0 * 5
"""Seconds: a first look to compare with, and as many as it takes."""

DAY = 86_400.0


async def test_a_server_without_answers_and_progress_is_replaced_after_so_many_probes() -> None:
    async with running(limits=LOOKING) as run:
        run.world.script("m", WEDGED, Script())
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(VERDICT - 0.1)
        assert run.phase("m") is Phase.READY
        assert run.world.signals("m") == []
        await asyncio.sleep(0.2)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(VERDICT))]
        failed = run.server("m")
        assert failed.phase is Phase.FAILED
        assert failed.last_exit is not None
        assert failed.last_exit.cause is Cause.WEDGED
        assert list(failed.crashes) == pytest.approx([VERDICT])
        assert (await run.pool.ensure("m")).server.generation == 2
        assert now() == pytest.approx(VERDICT + 1.1)


async def test_who_asks_while_a_wedged_one_is_stopped_gets_the_next_at_once() -> None:
    async with running(limits=LOOKING, drain_timeout=60.0, stop_timeout=5.0) as run:
        deaf = {StopSignal.TERMINATE: NEVER, StopSignal.INTERRUPT: NEVER}
        run.world.script("m", replace(WEDGED, ends_on=deaf), Script())
        run.world.renewed.add("m")
        await run.pool.ensure("m")
        await asyncio.sleep(VERDICT + 1)
        assert run.phase("m (generation 1)") is Phase.STOPPING
        assert (await run.pool.ensure("m")).server.generation == 2
        assert now() == pytest.approx(VERDICT + 2.0)
        await asyncio.sleep(71)
        assert [name for name, _ in run.world.signals("m")] == ["SIGTERM", "SIGINT", "SIGKILL"]


@pytest.mark.parametrize(("answers", "moves"), [(True, False), (False, True), (True, True)])
async def test_a_server_that_answers_or_moves_is_left_alone(answers: bool, moves: bool) -> None:
    async with running(limits=LOOKING) as run:
        run.world.script("m", replace(WEDGED, answers=answers, moves=moves))
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(20 * VERDICT)
        assert run.phase("m") is Phase.READY


async def test_one_sign_of_life_begins_the_count_anew() -> None:
    async with running(limits=LOOKING) as run:
        script = replace(WEDGED)
        run.world.script("m", script)
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(VERDICT - 1)
        script.moves = True
        await asyncio.sleep(2)
        script.moves = False
        await asyncio.sleep(VERDICT - 17)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(2)
        assert run.world.signals("m")


async def test_probes_are_rare_and_neither_a_use_nor_a_change() -> None:
    async with running(limits=LOOKING, keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(1)  # it is measured, once
        revision = run.pool.history.revision
        await asyncio.sleep(298)
        assert len(run.world.times("check_liveness")) == 19
        assert run.pool.history.revision == revision
        await asyncio.sleep(2.1)
        assert run.phase("m") is None


async def test_a_slow_probe_is_not_overtaken_by_the_next() -> None:
    async with running(limits=LOOKING) as run:
        run.world.script("m", Script(load=0.0, probe_time=40.0))
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(200)
        looks = [call.at for call in run.world.times("check_liveness")]
        assert looks == pytest.approx([15.0, 70.0, 125.0, 180.0])


async def test_a_check_that_fails_is_no_verdict_and_another_follows() -> None:
    async with running(limits=LOOKING) as run:
        run.world.script("m", replace(WEDGED, raises={"check_liveness": ZeroDivisionError()}))
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(VERDICT + 16)
        assert run.phase("m") is Phase.READY
        assert len(run.world.times("check_liveness")) == 6


async def test_a_wedged_server_is_replaced_though_an_eviction_asks_how_busy_it_is() -> None:
    async with running(limits=LOOKING) as run:
        run.world.script("m", replace(WEDGED, check=NEVER))
        await run.pool.ensure("m", keep_alive=FOREVER)
        await asyncio.sleep(14)
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(VERDICT)
        run.world.of("m").end()
        await outcomes(evicting)
        assert run.phase("m") is None


# --- the service was away -----------------------------------------------------------------


@pytest.mark.parametrize("away", [60.0, 3600.0, DAY])
async def test_nothing_goes_unused_at_once_after_the_service_was_away(away: float) -> None:
    async with running(keep_alive=300.0, grace_period=10.0) as run:
        await asyncio.gather(run.pool.ensure("a"), run.pool.ensure("b"))
        await asyncio.sleep(250)
        run.world.clock.jump(away)
        await asyncio.sleep(51)
        woken = run.server("b").spared_until - 10.0 - away
        assert woken == pytest.approx(now(), abs=2.0)
        await asyncio.sleep(8)
        assert run.phase("b") is Phase.READY
        await run.pool.ensure("a")
        await asyncio.sleep(30)
        assert run.world.signals("a") == []
        assert run.world.signals("b") == [("SIGTERM", pytest.approx(woken + 10.0))]


async def test_an_ensure_that_comes_before_the_late_timer_finds_its_server() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(250)
        run.world.clock.jump(DAY)
        assert not (await run.pool.ensure("m")).started
        await asyncio.sleep(299)
        assert run.phase("m") is Phase.READY


async def test_after_its_grace_an_unused_server_goes() -> None:
    async with running(keep_alive=300.0, grace_period=10.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(1)  # Nothing is due for a while.
        run.world.clock.jump(DAY)
        await asyncio.sleep(60)  # The longest nap.
        woken = run.world.clock.now()
        assert run.server("m").expires_at == pytest.approx(woken + 10.0, abs=2.0)
        await asyncio.sleep(13)
        assert run.phase("m") is None


async def test_a_start_gets_back_the_time_for_which_the_service_was_away() -> None:
    async with running(start_timeout=120.0) as run:
        run.world.script("m", Script(load=NEVER))
        call = run.ensure()
        await asyncio.sleep(100)
        run.world.clock.jump(DAY)
        await asyncio.sleep(19)
        assert run.phase("m") is Phase.STARTING
        assert isinstance((await outcomes(call))[0], StartTimeout)
        assert now() >= 120.0


async def test_what_is_in_flight_gets_back_the_time_for_which_the_service_was_away() -> None:
    async with running(drain_timeout=100.0) as run:
        run.world.script("m", Script(load=0.0, ends_on={StopSignal.TERMINATE: 99.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m", force=True))
        await asyncio.sleep(30)
        run.world.clock.jump(DAY)
        await evicting
        assert [name for name, _ in run.world.signals("m")] == ["SIGTERM"]


async def test_a_stall_of_the_service_is_no_verdict_on_its_servers() -> None:
    async with running(limits=LOOKING) as run:
        run.world.script("m", replace(WEDGED))
        await run.pool.ensure("m", keep_alive=FOREVER)
        for _ in range(10):
            await asyncio.sleep(VERDICT - 34)
            run.world.clock.jump(SUSPENSION_S + 5.0)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(VERDICT + 15)
        assert run.world.signals("m")


async def test_a_timer_that_is_a_little_late_is_no_stall() -> None:
    async with running(keep_alive=300.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(298)
        run.world.clock.jump(SUSPENSION_S - 0.5)
        await asyncio.sleep(4)
        assert run.phase("m") is None


async def test_a_pool_at_rest_does_not_take_its_rest_for_a_stall() -> None:
    async with running(keep_alive=300.0, start_timeout=100.0) as run:
        await run.pool.ensure("a", keep_alive=FOREVER)
        await asyncio.sleep(10_000)
        run.world.script("m", Script(load=NEVER))
        begun = now()
        assert isinstance((await outcomes(run.pool.ensure("m")))[0], StartTimeout)
        assert now() == pytest.approx(begun + 100.0)


async def test_a_jump_evicts_nobody_though_an_eviction_of_the_idle_may() -> None:
    async with running(grace_period=10.0, keep_alive=300.0) as run:
        await run.pool.ensure("m")
        run.world.clock.jump(DAY)
        assert len(await run.pool.evict("m")) == 1


async def test_the_probes_of_many_are_spread_and_limited_per_second() -> None:
    many = 400
    looking = replace(LOOKING, max_starts=many, queue_limit=many)
    async with running(limits=looking) as run:
        models = {f"m{number}" for number in range(many)}
        await asyncio.gather(*(run.pool.ensure(model, keep_alive=FOREVER) for model in models))
        # Those that became READY while they were few still have times of their own until then.
        await asyncio.sleep(LOOKING.probe_interval)
        for begins in (30.0, 300.0):
            await asyncio.sleep(begins)
            before = len(run.world.times("check_liveness"))
            await asyncio.sleep((many + PROBES_AT_ONCE) / MAX_PROBES_PER_S + 1)
            looks = run.world.times("check_liveness")[before:]
            assert {look.model for look in looks} == models
            turns = Counter(round(look.at, 3) for look in looks)
            assert max(turns.values()) == PROBES_AT_ONCE
            gaps = [after - turn for turn, after in pairwise(turns)]
            assert min(gaps) == pytest.approx(PROBES_AT_ONCE / MAX_PROBES_PER_S, abs=1e-2)


async def test_one_of_many_that_does_not_answer_is_probed_as_often_as_one_of_few() -> None:
    many = 400
    looking = replace(LOOKING, max_starts=many, queue_limit=many)
    async with running(limits=looking) as run:
        models = [f"m{number}" for number in range(many)]
        await asyncio.gather(*(run.pool.ensure(model, keep_alive=FOREVER) for model in models))
        run.world.of("m7").script = WEDGED
        await asyncio.sleep(15.0 + many / MAX_PROBES_PER_S + VERDICT)
        assert run.phase("m7") is Phase.FAILED


async def test_when_most_servers_have_gone_probes_are_frequent_again() -> None:
    many, left = 400, 3
    looking = replace(LOOKING, max_starts=many, queue_limit=many)
    async with running(limits=looking) as run:
        models = [f"m{number}" for number in range(many)]
        await asyncio.gather(*(run.pool.ensure(model, keep_alive=FOREVER) for model in models))
        await asyncio.sleep(120)
        await asyncio.gather(*map(run.pool.evict, models[left:]))
        await asyncio.sleep(15.0 + many / MAX_PROBES_PER_S)
        before = len(run.world.times("check_liveness"))
        await asyncio.sleep(60)
        looks = run.world.times("check_liveness")[before:]
        for model in models[:left]:
            own = [look.at for look in looks if look.model == model]
            assert [b - a for a, b in pairwise(own)] == pytest.approx([15.0] * 3)
