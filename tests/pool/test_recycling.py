"""Claims about servers that grow past their memory limit, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ServerInUse
from pool_service.core.limits import Limits
from pool_service.core.server import Cause, Phase
from pool_service.core.types import Account
from tests.pool.holds import holding
from tests.pool.running import DEFAULTS, LIMITS, Running, name_of, running
from tests.world import NEVER, Script

pytestmark = pytest.mark.looptime

LOOKED_AT = replace(LIMITS, sample_interval=1.0)
TIGHT = replace(LOOKED_AT, memory_budget=150)
LOAD = 2.0
SETTLED = LOAD * 10
"""Seconds after which a server that took LOAD to load may be renewed."""

RETIRED = "m (generation 1)"
SUCCESSOR = "m (generation 2)"


@asynccontextmanager
async def over_limit(
    limits: Limits = LOOKED_AT,
    *,
    keep_alive: float = 300.0,
    grows_after: float = 0.0,
    account: Account | None = None,
) -> AsyncGenerator[Running]:
    """A READY server that has grown past its ceiling, at the moment at which that counts."""
    async with running(
        limits=limits, memory_limit=120, keep_alive=keep_alive, grace_period=3.0
    ) as run:
        run.world.renewed.add("m")
        first = Script(load=LOAD, needs=100, takes=100)
        run.world.script("m", first, Script(load=LOAD, needs=100, takes=100))
        await run.pool.ensure("m", account=account)
        await asyncio.sleep(grows_after)
        first.grown = 30
        await asyncio.sleep(SETTLED - grows_after)
        yield run


async def test_the_next_generation_is_ready_before_the_old_one_goes() -> None:
    async with over_limit() as run:
        before = run.server("m")
        await asyncio.sleep(1.1)
        assert run.phase(SUCCESSOR) is Phase.STARTING
        assert run.server("m").endpoint == before.endpoint
        await asyncio.sleep(LOAD)
        assert run.server("m").generation == 2
        assert run.server("m").endpoint != before.endpoint
        assert run.phase(RETIRED) is Phase.READY
        assert run.phase(SUCCESSOR) is None
        await run.pool.ensure("m")
        assert run.pool.at_once("m") is not None
        await asyncio.sleep(4)
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]
        end = run.server("m").last_exit
        assert end is not None
        assert (end.cause, end.generation) == (Cause.MEMORY_LIMIT, 1)


@pytest.mark.parametrize("limits", [LOOKED_AT, TIGHT], ids=["beside it", "in its place"])
async def test_its_memory_goes_on_counting_to_the_same_account(limits: Limits) -> None:
    async with over_limit(limits, account=Account("engine", 0.9)) as run:
        await asyncio.sleep(10)
        assert run.server("m").generation == 2
        assert run.server("m").account == "engine"


async def test_what_was_replaced_is_given_to_nobody_by_its_own_name() -> None:
    async with over_limit() as run:
        await asyncio.sleep(1.1)
        while run.phase(RETIRED) is None:
            await run.pool.ensure("m")
            await asyncio.sleep(0.01)
        assert run.phase(RETIRED) is Phase.READY
        assert run.pool.at_once(RETIRED) is None


async def test_what_was_replaced_stays_until_nothing_is_in_flight_on_it() -> None:
    async with over_limit() as run:
        run.world.of("m").script.requests = 1
        old = run.world.of("m")
        await asyncio.sleep(100)
        assert run.server("m").generation == 2
        assert old.alive
        old.script.requests = 0
        await asyncio.sleep(2)
        assert not old.alive


async def test_a_model_that_needs_more_than_its_memory_limit_is_not_loaded_over_and_over() -> None:
    async with running(limits=LOOKED_AT, memory_limit=120, keep_alive=1e6, grace_period=3.0) as run:
        run.world.renewed.add("m")
        run.world.script("m", Script(load=LOAD, needs=100, takes=130))
        await run.pool.ensure("m")
        await asyncio.sleep(1000)
        assert 10 <= len(run.world.times("spawn")) <= 1000 * 0.1 / LOAD


async def test_it_goes_on_as_used_and_as_kept_as_it_was() -> None:
    async with over_limit(keep_alive=60.0) as run:
        await asyncio.sleep(10)
        assert run.server("m").generation == 2
        assert run.server("m").keep_alive == 60.0
        await asyncio.sleep(60.0 - SETTLED - 10 + LOAD + 1)
        assert run.phase("m") is None


async def test_a_holder_gets_the_new_endpoint_and_holds_it() -> None:
    async with over_limit() as run:
        held = run.pool.hold("m")
        before = await anext(held)
        await asyncio.sleep(30)
        now = await anext(held)
        assert (before.generation, now.generation) == (1, 2)
        assert now.holds == 1
        assert run.phase(RETIRED) is None
        await held.aclose()


async def test_a_held_model_stays_held_when_its_server_is_recycled() -> None:
    async with over_limit(keep_alive=60.0) as run, holding(run):
        run.world.of("m").script.requests = 1
        await asyncio.sleep(10)
        assert run.server("m").generation == 2
        assert run.server("m").holds == 1
        with pytest.raises(ServerInUse):
            await run.pool.evict("m")
        await asyncio.sleep(1000)
        assert run.phase("m") is Phase.READY


async def test_a_successor_that_fails_leaves_what_runs_alone() -> None:
    async with over_limit() as run:
        first = run.world.of("m").script
        run.world.script("m", first, Script(load=NEVER, dies=0.0))
        before = run.server("m").endpoint
        await asyncio.sleep(60)
        assert run.server("m").endpoint == before
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]
        assert 2 <= len(run.world.times("spawn")) <= 4


async def test_a_successor_is_called_off_when_what_it_replaces_dies() -> None:
    async with over_limit() as run:
        first = run.world.of("m").script
        run.world.script("m", first, Script(load=NEVER), Script(load=1.0))
        await asyncio.sleep(1.1)
        assert run.phase(SUCCESSOR) is Phase.STARTING
        run.world.of("m").script.load = NEVER
        next(process for process in run.world.living if process.generation == 1).end()
        await asyncio.sleep(0.1)
        ensured = await run.pool.ensure("m")
        assert ensured.server.generation == 3
        await asyncio.sleep(1)
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]


async def test_an_eviction_by_name_ends_its_successor_too() -> None:
    async with over_limit() as run:
        await asyncio.sleep(1.1)
        assert run.phase(SUCCESSOR) is Phase.STARTING
        await run.pool.evict("m")
        assert run.pool.page(None, 9) == []


async def test_an_eviction_that_is_refused_leaves_the_successor_alone() -> None:
    async with over_limit() as run, holding(run):
        await asyncio.sleep(1.1)
        assert run.phase(SUCCESSOR) is Phase.STARTING
        with pytest.raises(ServerInUse):
            await run.pool.evict("m")
        assert run.phase(SUCCESSOR) is Phase.STARTING
        await asyncio.sleep(LOAD)
        assert run.server("m").generation == 2


@pytest.mark.parametrize("requests", [0, 1])
async def test_an_eviction_without_force_leaves_alone_what_was_replaced(requests: int) -> None:
    async with over_limit() as run:
        old = run.world.of("m")
        old.script.requests = requests
        await asyncio.sleep(1.1 + LOAD)
        assert run.phase(RETIRED) is Phase.READY
        removed = await run.pool.evict("m")
        assert [(one.server.model, one.server.generation) for one in removed] == [("m", 2)]
        assert run.phase(RETIRED) is Phase.READY
        assert old.alive
        old.script.requests = 0
        await asyncio.sleep(5)
        assert not old.alive


async def test_force_ends_also_what_was_replaced() -> None:
    async with over_limit() as run:
        run.world.of("m").script.requests = 1
        await asyncio.sleep(10)
        removed = await run.pool.evict("m", force=True)
        assert [name_of(one.server) for one in removed] == [RETIRED, "m"]
        assert run.world.living == []


async def test_without_memory_for_both_it_is_stopped_when_unused_and_started_again() -> None:
    async with over_limit(TIGHT) as run:
        await asyncio.sleep(10)
        assert run.server("m").generation == 2
        assert run.phase("m") is Phase.READY
        end = run.server("m").last_exit
        assert end is not None
        assert end.cause is Cause.MEMORY_LIMIT


async def test_what_came_again_is_not_taken_for_what_was_over_its_limit() -> None:
    async with running(limits=TIGHT, memory_limit=120, grace_period=0.0) as run:
        first = Script(load=LOAD, needs=100, takes=100)
        run.world.script("m", first, *[Script(load=0.0, needs=100, takes=100)] * 9)
        await run.pool.ensure("m")
        first.grown = 30
        await asyncio.sleep(SETTLED + 5)
        assert run.server("m").generation == 2


async def test_without_memory_for_both_a_busy_server_is_still_handed_out() -> None:
    async with over_limit(TIGHT) as run:
        run.world.of("m").script.requests = 1
        for _ in range(30):
            await asyncio.sleep(1)
            async with asyncio.timeout(1):
                assert (await run.pool.ensure("m")).server.generation == 1


async def test_without_memory_for_both_constant_requests_do_not_keep_it() -> None:
    async with over_limit(TIGHT) as run:
        waited = []
        for _ in range(100):
            await asyncio.sleep(0.1)
            began = asyncio.get_running_loop().time()
            await run.pool.ensure("m")
            waited.append(asyncio.get_running_loop().time() - began)
        assert run.server("m").generation == 2
        assert max(waited) < 3.0 + LOAD + 2


async def test_a_service_that_dies_meanwhile_keeps_the_one_and_ends_the_other() -> None:
    async with over_limit() as run:
        await asyncio.sleep(1.1)
        assert run.phase(SUCCESSOR) is Phase.STARTING
        await run.restart()
        await asyncio.sleep(0.1)
        assert [server.model for server in run.pool.page(None, 9)] == ["m"]
        assert run.server("m").generation == 1
        assert len(run.world.living) == 1


async def test_the_generation_of_a_successor_is_not_given_again_after_a_restart() -> None:
    async with over_limit() as run:
        await asyncio.sleep(1.1)
        assert run.phase(SUCCESSOR) is Phase.STARTING
        await run.restart()
        await asyncio.sleep(0.1)
        await run.restart()
        await run.pool.evict("m", force=True)
        assert (await run.pool.ensure("m")).server.generation == 3


async def test_a_service_that_dies_after_the_change_keeps_the_new_one() -> None:
    async with over_limit() as run:
        old = run.world.of("m")
        old.script.requests = 1
        await asyncio.sleep(10)
        assert run.phase(RETIRED) is Phase.READY
        await run.restart()
        await asyncio.sleep(0.1)
        assert run.server("m").generation == 2
        assert run.world.signals("m")[0][0] == "SIGTERM"
        assert not old.alive


async def reload(run: Running, *, only_listed: bool = False, **changed: object) -> None:
    """The configuration changes; without changes `m` is listed no more."""
    ours = replace(DEFAULTS, memory_limit=120, grace_period=3.0)
    models = {"m": replace(ours, **changed)} if changed else {}  # type: ignore[arg-type]
    await run.pool.reload(Catalogue(ours, models, {}, only_listed), LOOKED_AT)


@pytest.mark.parametrize("late", [0.0, 1.1], ids=["before", "while the successor starts"])
@pytest.mark.parametrize("changed", [{"config_hash": "other"}, {"runtime_model": "other"}, {}])
async def test_an_outdated_server_is_not_recycled_as_it_was(
    late: float, changed: dict[str, str]
) -> None:
    async with over_limit() as run:
        run.world.of("m").script.requests = 1
        await asyncio.sleep(late)
        await reload(run, only_listed=True, **changed)
        await asyncio.sleep(60)
        server = run.server("m")
        assert (server.generation, server.outdated) == (1, True)
        assert len(run.world.times("spawn")) == (2 if late else 1)
        assert len(run.world.living) == 1


@pytest.mark.parametrize("ceiling", [None, 1000])
async def test_what_a_reload_let_be_larger_is_handed_out_and_stays(ceiling: int | None) -> None:
    async with over_limit(TIGHT) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(1.5)
        asked = run.ensure()
        await asyncio.sleep(0)
        assert not asked.done(), "it is to go as soon as its residency is over"
        await run.pool.reload(
            Catalogue(DEFAULTS, {"m": replace(DEFAULTS, memory_limit=ceiling)}), TIGHT
        )
        async with asyncio.timeout(0.1):
            assert (await asked).server.generation == 1
        await asyncio.sleep(60)
        assert run.server("m").generation == 1


async def test_a_server_past_its_memory_limit_and_the_budget_is_recycled_and_not_lost() -> None:
    tight = replace(LOOKED_AT, memory_budget=125)
    async with over_limit(tight, grows_after=SETTLED) as run:
        await asyncio.sleep(SETTLED)
        server = run.server("m")
        assert (server.phase, server.generation) == (Phase.READY, 2)
        assert server.last_exit is not None
        assert server.last_exit.cause is Cause.MEMORY_LIMIT
