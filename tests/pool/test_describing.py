"""Claims about the description of a model, in virtual time."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.description import Description
from pool_service.core.errors import CrashLoop, ModelRejected, ModelUnknown, StartFailed
from pool_service.core.runs import RUNS_KEPT, Origin
from pool_service.core.server import Cause, Phase, Role, StopSignal
from tests.pool.capacity import fill, limits, room, sized
from tests.pool.running import DEFAULTS, LIMITS, Running, now, running
from tests.world import CRASH, Script

pytestmark = pytest.mark.looptime

LOOKING = replace(LIMITS, probe_interval=15.0, probe_limit=4)


async def describe(run: Running, model: str = "m") -> Description:
    return await run.pool.descriptions.of(model)


async def test_a_look_is_no_use_starts_nothing_and_changes_no_order() -> None:
    async with room() as run:
        await fill(run, "a", "b")
        await asyncio.sleep(5)
        before = [run.pool.page(None, 10), (await describe(run, "a")).order]
        revision = run.pool.history.revision
        for model in ("a", "b", "c", "a", "a"):
            await describe(run, model)
        assert [run.pool.page(None, 10), (await describe(run, "a")).order] == before
        assert run.pool.history.revision == revision
        run.world.script("new", sized(5))
        await run.pool.ensure("new")
        assert run.phase("a") is None, "it was used first, and looks do not count"


async def test_looks_do_not_keep_a_server() -> None:
    async with running(keep_alive=10.0, grace_period=0.0) as run:
        await run.pool.ensure("m")
        for _ in range(15):
            await describe(run)
            await asyncio.sleep(1)
        assert run.phase("m") is None


async def test_a_model_that_was_never_used_is_described_by_its_settings_and_estimate() -> None:
    async with running() as run:
        run.world.script("m", Script(needs=7))
        described = await describe(run)
        assert (described.servers, described.runs, described.decisions) == ((), (), ())
        assert described.estimate is not None
        assert described.estimate.expected == 7
        assert not described.is_listed
        assert run.pool.page(None, 10) == []


async def test_what_cannot_be_estimated_is_described_with_the_reason() -> None:
    async with running() as run:
        run.world.script("m", Script(raises={"estimate": ModelRejected("it is no model")}))
        assert (await describe(run)).flaw == "it is no model"


async def test_an_alias_describes_its_model() -> None:
    async with running(models={"m": replace(DEFAULTS)}, aliases={"a": "m"}) as run:
        described = await describe(run, "a")
        assert (described.model, described.aliases, described.is_listed) == ("m", ("a",), True)


@pytest.mark.parametrize("is_estimated", [True, False])
async def test_a_model_that_is_served_no_longer_is_described_with_that_problem(
    *, is_estimated: bool
) -> None:
    async with running() as run:
        await run.pool.ensure("m")
        assert (await describe(run)).flaw == ""
        await run.pool.reload(Catalogue(DEFAULTS, only_listed=True), LIMITS)
        if not is_estimated:
            run.world.script("m", Script(raises={"estimate": ModelRejected("it is no model")}))
        assert "only_listed is set, so it is not served" in (await describe(run)).flaw
        await run.pool.evict("m", force=True)
        assert "not served" in (await describe(run)).flaw


async def test_a_name_that_is_not_served_and_never_ran_is_unknown() -> None:
    async with running(only_listed=True) as run:
        with pytest.raises(ModelUnknown):
            await describe(run, "other")


async def test_the_stages_of_a_start_have_their_times() -> None:
    async with running() as run:
        run.world.script("m", Script(estimate=1.0, prepare=2.0, spawn=3.0, load=4.0))
        await run.pool.ensure("m")
        (told,) = (await describe(run)).runs
        assert told.origin is Origin.COLD
        stages = told.queued_at, told.admitted_at, told.spawned_at, told.ready_at
        assert stages == pytest.approx((0.0, 1.0, 6.0, 10.0))
        assert told.exit is None


async def test_each_generation_is_kept_with_its_end_and_only_the_last_ones() -> None:
    async with running() as run:
        for _ in range(RUNS_KEPT + 4):
            await run.pool.ensure("m")
            await run.pool.evict("m", force=True)
        runs = (await describe(run)).runs
        assert [one.generation for one in runs] == list(range(5, RUNS_KEPT + 5))
        assert {one.exit.cause for one in runs if one.exit} == {Cause.EVICTED}
        assert all(one.stopped_at is not None and one.ended_at is not None for one in runs)


async def test_a_start_that_was_given_up_before_its_turn_leaves_no_generation() -> None:
    async with room() as run:
        await fill(run, "a", size=10)
        async with aclosing(run.pool.hold("a")) as held:
            await anext(held)
            run.world.script("m", sized(5))
            call = run.ensure("m")
            await asyncio.sleep(1)
            assert [one.admitted_at for one in (await describe(run)).runs] == [None]
            call.cancel()
            await asyncio.sleep(1)
            assert (await describe(run)).runs == ()


async def test_a_server_of_an_earlier_service_is_told_as_adopted() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        await run.restart()
        (told,) = (await describe(run)).runs
        assert told.origin is Origin.ADOPTED
        assert told.ready_at is not None


async def test_a_stop_and_a_start_that_an_earlier_service_began_have_no_time_of_this_one() -> None:
    async with running(stop_timeout=60.0) as run:
        run.world.script("m", Script(ends_on={StopSignal.TERMINATE: 30.0}))
        await run.pool.ensure("m")
        evicting = asyncio.create_task(run.pool.evict("m", force=True))
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.STOPPING
        run.world.script("n", Script(prepare=10.0))
        run.ask("n")
        await asyncio.sleep(1)
        assert run.phase("n") is Phase.PREPARING
        evicting.cancel()
        await run.restart()
        (told,) = (await describe(run)).runs
        assert (told.stopped_at, told.origin) == (None, Origin.ADOPTED)
        assert (await describe(run, "n")).runs == ()


async def test_the_most_memory_of_a_run_is_told_while_it_lives() -> None:
    async with room() as run:
        await fill(run, "m", size=5)
        run.world.script("n", sized(1))
        await run.pool.ensure("n")
        peaks = {one.peak for one in (await describe(run, "m")).runs}
        assert peaks == {run.server("m").peak} == {5}


async def test_a_load_is_told_without_the_time_in_which_the_machine_was_suspended() -> None:
    async with running() as run:
        run.world.script("m", Script(load=30.0))
        call = run.ensure("m")
        await asyncio.sleep(1)
        run.world.clock.jump(1000.0)
        await call
        (told,) = (await describe(run)).runs
        assert told.load_s == pytest.approx(30.0, abs=1.0)


async def test_a_hold_waits_since_its_server_was_lost() -> None:
    async with running() as run:
        async with aclosing(run.pool.hold("m", holder="a test")) as held:
            while (await anext(held)).phase is not Phase.READY:
                pass
            await asyncio.sleep(10)
            crashed_at = now()
            run.world.script("m", Script(load=50.0))
            run.world.of("m").end()
            await asyncio.sleep(5)
            described = await describe(run)
        assert [one.since for one in described.holders] == [0.0]
        assert [one.since for one in described.waiting] == [pytest.approx(crashed_at)]


async def test_holders_and_waiting_calls_are_told_since_when() -> None:
    async with running() as run:
        run.world.script("m", Script(load=100.0))
        await asyncio.sleep(3)
        call = run.ensure("m")
        await asyncio.sleep(2)
        async with aclosing(run.pool.hold("m", holder="a test")) as held:
            await anext(held)
            described = await describe(run)
            assert [(one.label, one.since) for one in described.holders] == [("a test", 5.0)]
            waiting = [(one.since, one.is_hold, one.holder) for one in described.waiting]
            assert waiting == [(3.0, False, ""), (5.0, True, "a test")]
            await call
            assert (await describe(run)).waiting == ()


async def test_the_order_of_preemption_is_the_order_in_which_servers_go() -> None:
    async with room(limits=limits(memory_budget=15)) as run:
        await fill(run, "a", "b", "c")
        for _ in range(3):
            await asyncio.sleep(1)
            await run.pool.ensure("a")
        order = [one.server_id.model for one in (await describe(run, "a")).order]
        assert order[-1] == "a", "it was used most"
        run.world.script("new", sized(5))
        await run.pool.ensure("new")
        assert run.phase(order[0]) is None


@pytest.mark.parametrize("uses", range(1, 8))
async def test_of_servers_of_unequal_sizes_the_one_goes_for_a_small_model_that_is_told_first(
    uses: int,
) -> None:
    async with room() as run:
        for model, size in (("large", 8), ("small", 2)):
            await fill(run, model, size=size)
        for _ in range(uses):
            await asyncio.sleep(1)
            await run.pool.ensure("large")
        order = [one.server_id.model for one in (await describe(run, "large")).order]
        run.world.script("new", sized(1))
        await run.pool.ensure("new")
        assert [model for model in order if run.phase(model) is None] == order[:1]


async def test_a_held_server_is_not_in_the_order_and_that_is_told() -> None:
    async with room() as run:
        await fill(run, "a", "b")
        async with aclosing(run.pool.hold("a")) as held:
            await anext(held)
            described = await describe(run, "a")
            assert [one.server_id.model for one in described.order] == ["b"]
            assert described.protected == "it is held or pinned"
        assert (await describe(run, "a")).protected == ""


async def test_a_queued_model_tells_since_when_it_waits_and_for_what() -> None:
    async with room() as run:
        await fill(run, "a", size=10)
        async with aclosing(run.pool.hold("a")) as held:
            await anext(held)
            run.world.script("m", sized(5))
            call = run.ensure("m")
            await asyncio.sleep(4)
            described = await describe(run)
            assert described.queued_since == pytest.approx(1.0)
            (server,) = described.servers
            assert server.phase is Phase.QUEUED
            assert "'a' to go" in server.detail
            assert described.decisions[-1].why == server.detail
            call.cancel()


async def test_a_crash_loop_tells_its_crashes_its_error_and_when_it_may_start() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=0.1, load=100.0, report=replace(CRASH, code=None)))
        with pytest.raises(Exception, match="died"):
            await run.pool.ensure("m")
        restarts = (await describe(run)).restarts
        assert len(restarts.crashes) == restarts.limit
        assert restarts.failure is not None
        assert restarts.failure.reason == "CRASH_LOOP"
        assert restarts.retry_at > asyncio.get_running_loop().time()


async def test_a_start_that_failed_without_a_process_tells_its_error_for_a_moment() -> None:
    async with running() as run:
        run.world.script("m", Script(raises={"prepare": StartFailed("no port is left")}))
        with pytest.raises(StartFailed):
            await run.pool.ensure("m")
        restarts = (await describe(run)).restarts
        assert restarts.failure is not None
        assert restarts.retry_at == pytest.approx(now() + run.pool._machine.limits.failure_memory)
        await asyncio.sleep(restarts.retry_at - now() - 0.1)
        assert (await describe(run)).restarts == restarts
        await asyncio.sleep(0.2)
        after = (await describe(run)).restarts
        assert (after.failure, after.retry_at) == (None, 0.0)


async def test_what_drains_after_the_last_of_too_many_losses_tells_the_error_that_calls_get() -> (
    None
):
    async with running(limits=replace(LOOKING, crash_limit=1), stop_timeout=60.0) as run:
        deaf = {StopSignal.TERMINATE: 30.0}
        run.world.script("m", Script(load=0.0, answers=False, moves=False, ends_on=deaf))
        await run.pool.ensure("m")
        async with aclosing(run.pool.hold("m")) as held:
            with pytest.raises(CrashLoop):
                async for _ in held:
                    pass
        described = await describe(run)
        assert [one.role for one in described.servers] == [Role.SUPERSEDED]
        assert described.restarts.failure is not None
        assert described.restarts.failure.reason == "CRASH_LOOP"
        assert described.restarts.retry_at > now()
        assert len(described.restarts.crashes) == 1
        with pytest.raises(CrashLoop):
            await run.pool.ensure("m")


async def test_a_server_that_takes_no_memory_tells_why_it_is_not_in_the_order() -> None:
    async with room() as run:
        await fill(run, "a", size=10)
        async with aclosing(run.pool.hold("a")) as held:
            await anext(held)
            run.world.script("m", sized(5))
            call = run.ensure("m")
            await asyncio.sleep(1)
            told = [(await describe(run)).protected]
            call.cancel()
    async with running() as run:
        run.world.script("m", Script(dies=0.1, load=100.0, report=replace(CRASH, code=None)))
        call = run.ensure("m")
        await asyncio.sleep(0.2)
        assert run.phase("m") is Phase.BACKING_OFF
        told.append((await describe(run)).protected)
        with pytest.raises(CrashLoop):
            await call
        assert run.phase("m") is Phase.FAILED
        told.append((await describe(run)).protected)
    assert told == [
        "it waits for its turn and takes no memory yet",
        "it waits to be started again and takes no memory",
        "it has failed and takes no memory",
    ]


@pytest.mark.parametrize("pinned", [True, False])
async def test_a_pin_of_a_caller_is_a_setting_of_the_next_server(*, pinned: bool) -> None:
    configured = replace(DEFAULTS, pinned=not pinned)
    async with running(models={"m": configured}) as run:
        await run.pool.pin("m", pinned=pinned)
        (setting,) = [one for one in (await describe(run)).sources if one.key == "pinned"]
        assert (setting.value, setting.source) == (str(pinned).lower(), "a caller, by Pin")
