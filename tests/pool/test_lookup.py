"""Claims about lookups of one model's server, in virtual time."""

import asyncio

import pytest

from pool_service.core.server import Phase
from tests.pool.running import Running, now, running
from tests.world import KILLED, NEVER, Script

pytestmark = pytest.mark.looptime

PROBE_S = 0.5


async def ready(run: Running, **more: object) -> None:
    """Make `m` READY, with probes that take PROBE_S."""
    run.world.script("m", Script(load=0.0, probe_time=PROBE_S, **more))  # type: ignore[arg-type]
    await run.pool.ensure("m")


def probes(run: Running) -> int:
    """Return how often servers have been probed."""
    return len(run.world.times("check_liveness"))


async def test_a_model_without_a_server_has_none_and_is_not_started() -> None:
    async with running() as run:
        found = await run.pool.lookup.get("m", check=True)
        assert (found.server, found.answers) == (None, False)
        assert run.world.times("spawn") == []


async def test_a_lookup_without_a_check_asks_no_server() -> None:
    async with running() as run:
        await ready(run)
        before, began = probes(run), now()
        found = await run.pool.lookup.get("m")
        assert found.server is not None
        assert found.server.phase is Phase.READY
        assert not found.answers
        assert (probes(run), now()) == (before, began)


async def test_a_checked_server_that_lives_answers_and_is_not_used_by_that() -> None:
    async with running() as run:
        await ready(run)
        used = run.pool.page(None, 1)[0].last_used_at
        found = await run.pool.lookup.get("m", check=True)
        assert found.server is not None
        assert found.answers
        assert found.server.last_used_at == used


@pytest.mark.parametrize("sick", [{"answers": False}, {"healthy": False}])
async def test_a_sick_server_does_not_answer_and_stays_as_it_is(sick: dict[str, bool]) -> None:
    async with running() as run:
        await ready(run)
        for name, value in sick.items():
            setattr(run.world.of("m").script, name, value)
        found = await run.pool.lookup.get("m", check=True)
        assert found.server is not None
        assert found.server.phase is Phase.READY
        assert not found.answers


async def test_a_server_that_dies_while_it_is_checked_is_told_as_it_is_then() -> None:
    async with running() as run:
        await ready(run)
        looking = asyncio.create_task(run.pool.lookup.get("m", check=True))
        await asyncio.sleep(PROBE_S / 2)
        run.world.of("m").end(KILLED)
        found = await looking
        assert found.server is None or found.server.phase is not Phase.READY
        assert not found.answers


async def test_a_lost_listener_is_told_at_once() -> None:
    async with running() as run:
        await ready(run)
        run.world.of("m").script.listens = False
        found = await run.pool.lookup.get("m", check=True)
        assert not found.answers
        assert found.server is None or found.server.phase is not Phase.READY


async def test_a_starting_server_is_told_without_a_check() -> None:
    async with running() as run:
        run.world.script("m", Script(load=NEVER))
        starting = asyncio.create_task(run.pool.ensure("m"))
        await asyncio.sleep(1)
        found = await run.pool.lookup.get("m", check=True)
        assert found.server is not None
        assert found.server.phase is Phase.STARTING
        assert not found.answers
        starting.cancel()


async def test_callers_who_come_together_share_checks_that_begin_after_they_came() -> None:
    async with running() as run:
        await ready(run)
        before, began = probes(run), now()
        first = asyncio.create_task(run.pool.lookup.get("m", check=True))
        await asyncio.sleep(PROBE_S / 2)
        others = [asyncio.create_task(run.pool.lookup.get("m", check=True)) for _ in range(50)]
        assert (await first).answers
        assert all(found.answers for found in await asyncio.gather(*others))
        assert probes(run) - before == 2
        assert now() - began == pytest.approx(2 * PROBE_S)
        # Nothing is kept: the next caller gets a check of its own.
        assert (await run.pool.lookup.get("m", check=True)).answers
        assert probes(run) - before == 3


async def test_a_caller_that_gives_up_takes_the_check_from_nobody() -> None:
    async with running() as run:
        await ready(run)
        first = asyncio.create_task(run.pool.lookup.get("m", check=True))
        second = asyncio.create_task(run.pool.lookup.get("m", check=True))
        await asyncio.sleep(PROBE_S / 2)
        first.cancel()
        assert (await second).answers
