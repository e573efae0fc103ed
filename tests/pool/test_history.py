"""Claims about the numbered changes."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.change_history import Change, History
from pool_service.core.errors import RevisionCompacted
from pool_service.core.lifecycle import queued
from pool_service.core.server import Server, ServerId
from pool_service.core.types import EstimateSource, Settings
from tests.pool.running import LIMITS, running
from tests.world import Script, outcomes

pytestmark = pytest.mark.looptime


def server(model: str = "m") -> Server:
    return queued(None, ServerId(model, 1), Settings(runtime_model=model), 0.0)


async def read(history: History[Server], after: int) -> list[Change[Server]]:
    """All that there is after a revision of a history that is closed."""
    return [change async for change in history.follow(after)]


async def test_revisions_rise_by_one() -> None:
    history = History[Server](100)
    for _ in range(5):
        history.append(server(), removed=False)
    history.close()
    assert [change.revision for change in await read(history, 100)] == [101, 102, 103, 104, 105]
    assert [change.revision for change in await read(history, 103)] == [104, 105]
    assert await read(history, 105) == []


async def test_a_follower_sees_what_comes_later_without_a_gap() -> None:
    history = History[Server](0)
    seen: list[int] = []

    async def follow() -> None:
        async for change in history.follow(0):
            seen.append(change.revision)
            if change.revision % 3 == 0:
                await asyncio.sleep(1)

    follower = asyncio.create_task(follow())
    for n in range(30):
        history.append(server(), removed=False)
        await asyncio.sleep(0.1 * (n % 4))
    history.close()
    await follower
    assert seen == list(range(1, 31))


async def test_the_ring_holds_only_the_newest() -> None:
    history = History[Server](0, capacity=4)
    for _ in range(10):
        history.append(server(), removed=False)
    history.close()
    assert history.oldest == 6
    assert [change.revision for change in await read(history, 6)] == [7, 8, 9, 10]
    with pytest.raises(RevisionCompacted) as caught:
        await read(history, 5)
    assert (caught.value.oldest, caught.value.newest) == (6, 10)


async def test_a_revision_of_the_future_is_refused() -> None:
    history = History[Server](10)
    with pytest.raises(RevisionCompacted):
        await read(history, 11)


async def test_a_revision_of_before_this_history_is_refused() -> None:
    history = History[Server](10)
    with pytest.raises(RevisionCompacted):
        await read(history, 9)


async def test_a_follower_that_is_too_slow_gets_an_error() -> None:
    history = History[Server](0, capacity=4)
    history.append(server(), removed=False)
    changes = history.follow(0)
    assert (await anext(changes)).revision == 1
    for _ in range(5):
        history.append(server(), removed=False)
    with pytest.raises(RevisionCompacted):
        await anext(changes)


async def test_a_full_ring_replays_to_its_very_last() -> None:
    history = History[Server](0, capacity=4)
    changes = history.follow(0)
    for _ in range(4):
        history.append(server(), removed=False)
    history.close()
    assert [change.revision async for change in changes] == [1, 2, 3, 4]


def as_told(server: Server) -> Server:
    """Without what a look at the memory changes, which is no change to be told."""
    return replace(server, expected=0, expected_by=EstimateSource.UNKNOWN, footprint=0, peak=0)


async def test_the_replay_equals_the_page() -> None:
    async with running(limits=replace(LIMITS, max_starts=2)) as run:
        run.world.script("b", Script(dies=0.5))
        run.world.script("c", Script(dies=3.0))
        await outcomes(*[run.pool.ensure(name) for name in "abcde"])
        await run.pool.evict("a")
        await asyncio.sleep(5)
        await run.pool.ensure("c")
        shown: dict[str, Server] = {}
        for change in run.changes:
            shown.pop(change.server.model, None)
            if not change.removed:
                shown[change.server.model] = change.server
        page = run.pool.page(None, 100)
        assert [as_told(shown[model]) for model in sorted(shown)] == list(map(as_told, page))
        assert [c.revision for c in run.changes] == list(range(1001, run.pool.history.revision + 1))


async def test_a_shutdown_ends_the_watchers_after_the_last_change() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        watching = asyncio.create_task(read(run.pool.history, 1000))
        await run.pool.shutdown()
        assert (await watching)[-1].removed
