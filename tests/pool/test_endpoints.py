"""Claims about READY servers that lose their listener or fall sick, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service import endpoints
from pool_service.core.errors import CrashLoop, ServerInUse
from pool_service.core.limits import Limits
from pool_service.core.server import Cause, Phase, StopSignal
from pool_service.core.types import FOREVER, EndpointState, Identity
from tests.pool.holds import Holder, holding
from tests.pool.running import DEFAULTS, LIMITS, Running, name_of, now, running
from tests.world import NEVER, Process, Script, outcomes

pytestmark = pytest.mark.looptime

STREAM = 25.0
"""Seconds that what is in flight takes to be drained."""

LOAD = 2.0
ASIDE = "m (generation 1)"
TIGHT = replace(LIMITS, memory_budget=15)
ROUNDS = replace(LIMITS, endpoint_interval=1.0)
LOOKING = replace(LIMITS, probe_interval=15.0, probe_limit=4)


def streaming(**more: object) -> Script:
    """A server in the middle of a stream, which SIGTERM lets finish."""
    script = Script(load=LOAD, needs=10, takes=10, ends_on={StopSignal.TERMINATE: STREAM})
    return replace(script, **more)  # type: ignore[arg-type]


def script(run: Running, *scripts: Script) -> None:
    """How `m` behaves; while one goes on aside the next may be there as well."""
    run.world.renewed.add("m")
    run.world.script("m", *scripts, Script(load=LOAD, needs=10, takes=10))


async def lose(run: Running) -> None:
    """`m` is READY, and closes its listener in the middle of a stream."""
    await run.pool.ensure("m")
    run.world.of("m").script.listens = False


def lives(process: Process) -> bool:
    return process.alive


def sees_it(holder: Holder) -> bool:
    """Whether the last that who holds it was told is that it is READY."""
    return holder.is_ready


@pytest.fixture(autouse=True)
def _checks_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every call check, however soon after the last."""
    monkeypatch.setattr(endpoints, "CHECK_VALID_S", 0.0)


# --- handing out ------------------------------------------------------------------------------


async def test_callers_in_a_row_wait_for_no_check_and_a_loss_is_seen_between_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Renew a check that grows old after the answer, so that the next caller finds it done."""
    monkeypatch.setattr(endpoints, "CHECK_VALID_S", 0.005)
    async with running() as run:
        await run.pool.ensure("m")
        ask, asked = run.world.endpoint_state, list[float]()

        def counted(identity: Identity, endpoint: str) -> EndpointState:
            asked.append(now())
            return ask(identity, endpoint)

        monkeypatch.setattr(run.world, "endpoint_state", counted)
        began = now()
        for _ in range(9):
            before = len(asked)
            assert run.pool.at_once("m") is not None
            assert len(asked) == before, "a call has waited for a check"
            await asyncio.sleep(0.001)
        assert [round(at - began, 3) for at in asked] == [0.002, 0.004, 0.006, 0.008]
        run.world.of("m").script.listens = False
        assert run.pool.at_once("m") is not None, "the last check is valid for five milliseconds"
        await asyncio.sleep(0)
        assert run.pool.at_once("m") is not None
        await asyncio.sleep(0.001)
        assert run.pool.at_once("m") is not None
        await asyncio.sleep(0)
        assert run.pool.at_once("m") is None, "the check after the last answer has found the loss"


async def test_without_callers_no_check_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "CHECK_VALID_S", 0.005)
    async with running() as run:
        await run.pool.ensure("m")
        run.world.of("m").script.listens = False
        await asyncio.sleep(0.006)
        assert run.pool.at_once("m") is None, "a call after a pause checks before its answer"


async def test_an_endpoint_that_was_lost_is_given_to_nobody_and_the_next_comes_at_once() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        old = run.world.of("m")
        assert run.pool.at_once("m") is None
        ensured = await run.pool.ensure("m")
        assert (ensured.server.generation, ensured.started) == (2, True)
        assert now() == pytest.approx(2 * LOAD)
        assert lives(old), "what is in flight on it goes on"
        assert run.phase(ASIDE) is Phase.STOPPING
        await asyncio.sleep(STREAM)
        assert not lives(old)
        assert run.world.signals("m") == [("SIGTERM", pytest.approx(LOAD))]
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]


async def test_at_once_and_ensure_ask_of_a_server_that_listens_and_give_it() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        assert run.pool.at_once("m") is not None
        assert (await run.pool.ensure("m")).server.generation == 1


async def test_a_drain_that_takes_longer_than_it_may_is_cut() -> None:
    async with running(drain_timeout=10.0, stop_timeout=5.0) as run:
        script(run, streaming())
        await lose(run)
        await run.pool.ensure("m")
        await asyncio.sleep(STREAM)
        assert [name for name, _ in run.world.signals("m")] == ["SIGTERM", "SIGINT"]
        assert run.phase(ASIDE) is None


async def test_many_who_ask_get_the_same_next_generation() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        ensured = await asyncio.gather(*(run.pool.ensure("m") for _ in range(50)))
        assert {one.server.generation for one in ensured} == {2}
        assert sum(one.started for one in ensured) == 1
        assert len(run.world.times("spawn")) == 2


async def test_a_server_that_has_just_ended_is_not_handed_out_nor_taken_for_lost() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        run.world.of("m").end()
        assert run.pool.at_once("m") is None
        assert (await run.pool.ensure("m")).server.generation == 2
        end = run.server("m").last_exit
        assert end is not None
        assert end.cause is Cause.CRASHED


async def test_one_that_was_lost_and_that_nobody_wants_is_not_started_again() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        assert run.pool.at_once("m") is None
        assert run.phase(ASIDE) is Phase.STOPPING
        await asyncio.sleep(STREAM + 1)
        assert run.phase("m") is Phase.FAILED
        assert run.world.living == []
        assert len(run.world.times("spawn")) == 1


# --- who holds --------------------------------------------------------------------------------


async def test_a_holder_learns_of_it_within_a_second_and_gets_the_next() -> None:
    async with running(limits=ROUNDS) as run:
        script(run, streaming())
        async with holding(run) as holder:
            await asyncio.sleep(LOAD + 0.5)
            assert sees_it(holder)
            run.world.of("m").script.listens = False
            await asyncio.sleep(1.1)
            assert not sees_it(holder)
            await asyncio.sleep(LOAD)
            assert sees_it(holder)
            assert holder.told[-1].generation == 2
            assert holder.told[-1].holds == 1


async def test_who_begins_to_hold_what_was_lost_is_never_shown_its_endpoint() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        shown = []
        async for server in run.pool.hold("m"):
            shown.append(server)
            if server.phase is Phase.READY:
                break
        assert [(one.generation, one.phase) for one in shown][-1] == (2, Phase.READY)
        assert all(one.endpoint != f"http://127.0.0.1:{1000}" for one in shown)


async def test_a_pinned_model_that_was_lost_comes_again_by_itself() -> None:
    models = {"m": replace(DEFAULTS, pinned=True)}
    async with running(limits=ROUNDS, models=models) as run:
        script(run, streaming())
        await lose(run)
        await asyncio.sleep(1.1 + LOAD)
        assert run.server("m").generation == 2
        assert run.phase("m") is Phase.READY


async def test_rounds_reach_every_server_and_end_with_the_last() -> None:
    many = 150
    limits = replace(ROUNDS, max_starts=many, queue_limit=many)
    async with running(limits=limits, keep_alive=60.0) as run:
        models = [f"m{number}" for number in range(many)]
        run.world.script("m149", Script())
        await asyncio.gather(*map(run.pool.ensure, models))
        run.world.of("m149").script.listens = False
        await asyncio.sleep(3.1)
        assert run.phase("m149") is Phase.FAILED
        await asyncio.sleep(100)
        assert [server.model for server in run.pool.page(None, many)] == ["m149"]
        assert run.pool._endpoints._timer is None


# --- room, and one process a model -----------------------------------------------------------


async def test_without_memory_for_both_the_next_waits_for_the_end_of_the_old_and_says_so() -> None:
    async with running(limits=TIGHT) as run:
        script(run, streaming())
        await lose(run)
        call = run.ensure()
        await asyncio.sleep(1)
        assert run.server("m").phase is Phase.QUEUED
        assert "'m' (generation 1)" in run.server("m").detail
        assert (await call).server.generation == 2
        assert now() == pytest.approx(LOAD + STREAM + LOAD, abs=1.0)


async def test_one_that_loses_its_listener_again_waits_for_the_first_to_end() -> None:
    """A model has two processes at most."""
    async with running() as run:
        script(run, streaming(), streaming())
        await lose(run)
        await lose(run)
        assert run.server("m").generation == 2
        call = run.ensure()
        await asyncio.sleep(0.1)
        assert run.phase("m") is Phase.STOPPING
        assert len(run.world.living) == 2
        assert (await call).server.generation == 3
        assert now() == pytest.approx(2 * LOAD + STREAM + LOAD, abs=1.0)


async def test_one_that_never_listens_for_long_is_a_crash_loop_and_not_started_for_ever() -> None:
    async with running(limits=ROUNDS) as run:
        run.world.renewed.add("m")
        run.world.script("m", Script(load=0.1, listens=False))
        failed = await outcomes(run.pool.ensure("m"))
        assert isinstance(failed[0], CrashLoop)
        assert len(run.world.times("spawn")) == LIMITS.crash_limit


async def test_a_successor_at_the_memory_limit_is_called_off_and_the_next_comes() -> None:
    limits = replace(ROUNDS, sample_interval=1.0)
    async with running(limits=limits, memory_limit=12) as run:
        first = streaming(grown=0)
        script(run, first, streaming(load=NEVER, ends_on={}))
        await run.pool.ensure("m")
        first.grown = 5
        await asyncio.sleep(LOAD * 10 + 1.1)
        assert run.phase("m (generation 2)") is Phase.STARTING
        first.listens = False
        ensured = await run.pool.ensure("m")
        assert ensured.server.generation == 3
        assert run.phase(ASIDE) is Phase.STOPPING


# --- evictions, and the end -------------------------------------------------------------------


async def test_an_eviction_of_the_model_waits_for_what_goes_on_aside() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        await run.pool.ensure("m")
        removed = await run.pool.evict("m", force=True)
        assert [name_of(one.server) for one in removed] == [ASIDE, "m"]
        assert run.world.living == []
        assert now() == pytest.approx(LOAD + STREAM, abs=1.0)


async def test_an_eviction_that_has_begun_ends_one_that_loses_its_listener() -> None:
    async with running() as run:
        script(run, streaming(check=5.0))
        await lose(run)
        evicting = asyncio.create_task(run.pool.evict("m"))
        await asyncio.sleep(0.1)
        assert run.pool.at_once("m") is None
        assert run.pool._endpoints.verify(run.server("m")) is False
        assert run.phase("m") is Phase.STOPPING
        assert len(await evicting) == 1
        assert run.world.living == []


async def test_a_model_that_is_held_is_not_evicted_for_what_goes_on_aside() -> None:
    async with running(limits=ROUNDS) as run:
        script(run, streaming())
        async with holding(run):
            await asyncio.sleep(LOAD + 0.1)
            run.world.of("m").script.listens = False
            await asyncio.sleep(1.1 + LOAD)
            with pytest.raises(ServerInUse):
                await run.pool.evict("m")
            assert run.phase("m") is Phase.READY


async def test_its_exit_is_reported_for_its_model() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        await run.pool.ensure("m")
        told = run.server("m").last_exit
        assert told is not None
        assert (told.cause, told.generation) == (Cause.WEDGED, 1)
        assert "listen" in told.report.message
        await asyncio.sleep(STREAM + 1)
        end = run.server("m").last_exit
        assert end is not None
        assert (end.cause, end.generation) == (Cause.WEDGED, 1)
        assert "SIGTERM" in end.report.message


# --- over a restart of the service ------------------------------------------------------------


@pytest.mark.parametrize("written", [True, False])
async def test_a_service_that_dies_meanwhile_drains_the_one_and_keeps_the_other(
    written: bool,
) -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        old = run.world.of("m")
        await run.pool.ensure("m")
        await run.restart(written=written)
        assert (await run.pool.ensure("m")).server.generation == 2
        assert run.phase(ASIDE) is Phase.STOPPING
        assert lives(old)
        await asyncio.sleep(STREAM + 1)
        assert not lives(old)
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]


async def test_a_service_that_dies_as_it_notices_goes_on_with_it() -> None:
    async with running() as run:
        script(run, streaming())
        await lose(run)
        old = run.world.of("m")
        assert run.pool.at_once("m") is None
        await run.restart()
        assert (await run.pool.ensure("m")).server.generation == 2
        await asyncio.sleep(STREAM + 1)
        assert not lives(old)
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_was_lost_while_no_service_was_there_is_not_waited_for(wanted: bool) -> None:
    async with running() as run:
        script(run, streaming())
        await run.pool.ensure("m")
        await asyncio.sleep(1)
        await run.kill()
        old = run.world.of("m")
        old.script.listens = False
        await run.start()
        if wanted:
            assert (await run.pool.ensure("m")).server.generation == 2
            assert now() < 2 * LOAD + 3
        assert lives(old), "its stream goes on"
        await asyncio.sleep(STREAM + 1)
        assert not lives(old)
        assert run.phase("m") is (Phase.READY if wanted else Phase.FAILED)


# --- sick -------------------------------------------------------------------------------------

SICK = Script(load=LOAD, healthy=False, moves=False, requests=0)
FIRST_LOOK_AND_VERDICT = 15.0 * 5


async def pool_of(run: Running, sick: Script) -> None:
    script(run, sick)
    await run.pool.ensure("m", keep_alive=FOREVER)


async def test_a_server_that_says_for_long_that_it_is_unhealthy_is_replaced() -> None:
    async with running(limits=LOOKING) as run:
        await pool_of(run, replace(SICK))
        await asyncio.sleep(FIRST_LOOK_AND_VERDICT - 1)
        assert run.phase("m") is Phase.READY
        await asyncio.sleep(2)
        assert run.phase("m") is Phase.FAILED
        assert "unhealthy" in run.server("m").detail
        assert (await run.pool.ensure("m")).server.generation == 2


async def test_one_that_says_so_while_it_works_is_left_alone_until_it_does_nothing() -> None:
    async with running(limits=LOOKING) as run:
        busy = replace(SICK, in_flight=True, moves=True)
        await pool_of(run, busy)
        await asyncio.sleep(1000)
        assert run.phase("m") is Phase.READY
        busy.in_flight = False
        await asyncio.sleep(FIRST_LOOK_AND_VERDICT)
        assert run.phase("m") is Phase.FAILED


async def test_one_that_works_on_nothing_of_what_it_has_in_flight_is_replaced_and_drained() -> None:
    async with running(limits=LOOKING) as run:
        stuck = {StopSignal.TERMINATE: STREAM}
        await pool_of(run, replace(SICK, in_flight=True, moves=False, ends_on=stuck))
        old = run.world.of("m")
        await asyncio.sleep(FIRST_LOOK_AND_VERDICT + 1)
        assert (await run.pool.ensure("m")).server.generation == 2
        assert lives(old)


async def test_a_server_that_is_unhealthy_now_and_then_stays_and_one_that_mostly_is_ends() -> None:
    async def flipping(well: int, sick: int) -> Phase | None:
        async with running(limits=LOOKING) as run:
            flips = replace(SICK)
            await pool_of(run, flips)
            for _ in range(20):
                flips.healthy = True
                await asyncio.sleep(15.0 * well)
                flips.healthy = False
                await asyncio.sleep(15.0 * sick)
            return run.phase("m")

    assert await flipping(well=3, sick=3) is Phase.READY
    assert await flipping(well=1, sick=3) is None, "it went, and nobody asked again"


async def test_alternating_silence_and_bad_health_do_not_excuse_each_other() -> None:
    async with running(limits=LOOKING) as run:
        flips = replace(SICK)
        await pool_of(run, flips)
        for _ in range(10):
            flips.answers = not flips.answers
            await asyncio.sleep(15.0)
        assert run.phase("m") is Phase.FAILED


async def test_the_limits_of_a_reload_count_for_rounds_as_well() -> None:
    async with running(limits=ROUNDS) as run:
        await run.pool.ensure("m")
        await run.pool.reload(run.pool._machine._state.catalogue, Limits(endpoint_interval=FOREVER))
        await asyncio.sleep(1.1)
        assert run.pool._endpoints._timer is None


async def test_a_question_that_breaks_ends_neither_its_round_nor_the_next_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(limits=ROUNDS) as run:
        script(run, streaming())
        await run.pool.ensure("a")
        await run.pool.ensure("m")
        ask = run.world.endpoint_state

        def breaks(identity: Identity, endpoint: str) -> EndpointState:
            if identity == run.world.of("a").identity:
                raise ZeroDivisionError
            return ask(identity, endpoint)

        monkeypatch.setattr(run.world, "endpoint_state", breaks)
        await asyncio.sleep(5)
        run.world.of("m").script.listens = False
        await asyncio.sleep(2)
        assert run.server(ASIDE).phase is Phase.STOPPING
