"""Claims about reading logs: what comes, in which order, and when it ends, in virtual time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from pool_service.core.errors import (
    LogNotFound,
    PoolError,
    Recovering,
    ShuttingDown,
    TooManyFollowers,
)
from pool_service.core.server import Cause, Phase
from pool_service.core.server_logs import LogEnd, LogPart, LogPosition, LogQuery, Whence
from pool_service.log_followers import MAX_FOLLOWERS, MAX_READERS
from tests.pool.capacity import fill, room, there
from tests.pool.running import LIMITS, Running, running
from tests.world import CRASH, NEVER, Script

pytestmark = pytest.mark.looptime

NEWEST = LogQuery()
FOLLOWED = LogQuery(follow=True)


@dataclass
class Follower:
    """What a reader of a log was told."""

    parts: list[LogPart | LogEnd] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def told(self) -> list[str]:
        """Lines, and `end N` for the end of a generation."""
        found = list[str]()
        for part in self.parts:
            found += (
                part.lines if isinstance(part, LogPart) else [f"end {part.position.generation}"]
            )
        return found


async def read(run: Running, query: LogQuery = NEWEST, model: str = "m") -> Follower:
    """Read to the end."""
    follower = Follower()
    async with aclosing(run.pool.logs.read(model, query)) as parts:
        async for part in parts:
            follower.parts.append(part)
    return follower


@asynccontextmanager
async def following(
    run: Running, query: LogQuery = FOLLOWED, model: str = "m"
) -> AsyncIterator[Follower]:
    """Follow until the block ends."""
    follower = Follower()

    async def follow() -> None:
        try:
            async with aclosing(run.pool.logs.read(model, query)) as parts:
                async for part in parts:
                    follower.parts.append(part)
        except PoolError as error:
            follower.error = error

    task = asyncio.create_task(follow())
    await asyncio.sleep(0)
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_last_lines_of_a_running_server_are_read_and_nothing_is_waited_for() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, *(f"line {number}" for number in range(10)))
        follower = await read(run, LogQuery(lines=4))
        assert follower.told == ["line 6", "line 7", "line 8", "line 9"]


async def test_an_ended_process_is_told_after_its_last_line_with_its_exit() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a", "b")
        await run.pool.evict("m")
        await run.ensure()
        run.world.logs.write("m", 2, "c")
        follower = await read(run, LogQuery(Whence.PREVIOUS))
        assert follower.told == ["a", "b", "end 1"]
        end = follower.parts[-1]
        assert isinstance(end, LogEnd)
        assert end.exit is not None
        assert end.exit.cause is Cause.EVICTED


async def test_from_the_oldest_all_generations_are_read_in_their_order() -> None:
    async with running() as run:
        for generation in (1, 2, 3):
            await run.ensure()
            run.world.logs.write("m", generation, f"of {generation}")
            if generation < 3:
                await run.pool.evict("m")
        follower = await read(run, LogQuery(Whence.OLDEST, None))
        assert follower.told == ["of 1", "end 1", "of 2", "end 2", "of 3"]


async def test_one_generation_is_read_alone() -> None:
    async with running() as run:
        for generation in (1, 2):
            await run.ensure()
            run.world.logs.write("m", generation, f"of {generation}")
            await run.pool.evict("m")
        assert (await read(run, LogQuery(1))).told == ["of 1", "end 1"]
        assert (await read(run)).told == ["of 2", "end 2"]


async def test_a_follower_gets_new_lines_and_the_next_generations() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        async with following(run) as follower:
            await asyncio.sleep(1)
            run.world.logs.write("m", 1, "b")
            await asyncio.sleep(1)
            assert follower.told == ["a", "b"]
            run.world.logs.write("m", 1, "last")
            await run.pool.evict("m")
            await asyncio.sleep(1)
            assert follower.told == ["a", "b", "last", "end 1"]
            await asyncio.sleep(1000)
            await run.ensure()
            run.world.logs.write("m", 2, "c")
            await asyncio.sleep(1)
            assert follower.told == ["a", "b", "last", "end 1", "c"]


async def test_a_follower_waits_for_the_first_log_of_a_server_that_is_to_start() -> None:
    async with running() as run:
        run.world.script("m", Script(spawn=30.0))
        run.ask()
        async with following(run) as follower:
            await asyncio.sleep(20)
            # The log is there before its process.
            run.world.logs.write("m", 1, "a")
            await asyncio.sleep(20)
            assert follower.told == ["a"]


@pytest.mark.parametrize(
    "query",
    [LogQuery(), LogQuery(7), LogQuery(Whence.PREVIOUS), LogQuery(7, follow=True)],
    ids=["newest", "generation", "previous", "followed generation"],
)
async def test_a_log_that_is_not_kept_is_not_found(query: LogQuery) -> None:
    async with running() as run:
        with pytest.raises(LogNotFound, match="no log of 'm' is kept"):
            await read(run, query)


async def test_the_error_for_a_generation_names_those_that_are_kept() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        with pytest.raises(LogNotFound, match="generations 1"):
            await read(run, LogQuery(2))


async def test_nobody_who_follows_an_unknown_model_waits() -> None:
    async with running() as run:
        with pytest.raises(LogNotFound):
            await read(run, FOLLOWED)


async def test_an_alias_leads_to_the_log_of_its_model() -> None:
    async with running(aliases={"short": "m"}) as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        assert (await read(run, model="short")).told == ["a"]


async def test_after_any_part_reading_can_be_resumed_without_a_line_lost_or_doubled() -> None:
    async with running() as run:
        for generation in (1, 2):
            await run.ensure()
            run.world.logs.write("m", generation, *(f"{generation}.{n}" for n in range(7)))
            await run.pool.evict("m")
        whole = await read(run, LogQuery(Whence.OLDEST, None))
        for count, part in enumerate(whole.parts, start=1):
            rest = await read(run, LogQuery(part.position, None))
            assert [*whole.parts[:count], *rest.parts] == whole.parts


async def test_reading_one_generation_is_resumed_within_it() -> None:
    async with running() as run:
        for generation in (1, 2):
            await run.ensure()
            run.world.logs.write("m", generation, *(f"{generation}.{n}" for n in range(7)))
            await run.pool.evict("m")
        first = (await read(run, LogQuery(1))).parts[0]
        assert (await read(run, LogQuery(first.position, None))).told[-1] == "end 1"


async def test_what_was_trimmed_before_it_was_read_is_counted() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, *map(str, range(9)))
        run.world.logs.trimmed["m", 1] = 5
        (first, *_) = (await read(run, LogQuery(lines=None))).parts
        assert isinstance(first, LogPart)
        assert (first.missed_bytes, first.lines[0]) == (5, "5")


async def test_a_log_that_is_removed_meanwhile_ends_without_an_error() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, *map(str, range(9)))
        await run.pool.evict("m")
        async with aclosing(run.pool.logs.read("m", LogQuery(lines=None))) as parts:
            await anext(parts)
            run.world.logs.lines.clear()
            assert [type(part) async for part in parts] == [LogEnd]


async def test_reading_and_following_are_no_use_of_a_server() -> None:
    async with running(keep_alive=10.0) as run:
        server = (await run.ensure()).server
        run.world.logs.write("m", 1, "a")
        async with following(run) as follower:
            for number in range(12):
                run.world.logs.write("m", 1, str(number))
                await read(run)
                await asyncio.sleep(1)
            assert run.phase("m") is None, "it is evicted as if nobody looked"
            assert "end 1" in follower.told
        assert run.changes[-1].server.last_used_at == server.last_used_at


async def test_a_server_that_has_failed_is_told_with_its_exit() -> None:
    async with running() as run:
        run.world.script("m", Script(load=NEVER, dies=5.0))
        call = run.ensure()
        await asyncio.sleep(1)
        run.world.logs.write("m", 1, "Traceback")
        async with following(run) as follower:
            await asyncio.sleep(10)
            assert follower.told[:2] == ["Traceback", "end 1"]
            assert run.phase("m") is Phase.FAILED
        await asyncio.gather(call, return_exceptions=True)


async def test_so_many_may_follow_and_whoever_leaves_makes_place() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        streams = [run.pool.logs.read("m", FOLLOWED) for _ in range(MAX_FOLLOWERS)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(TooManyFollowers):
            await anext(run.pool.logs.read("m", FOLLOWED))
        assert (await read(run)).told == ["a"], "those who follow leave place for others"
        await streams.pop().aclose()
        streams.append(run.pool.logs.read("m", FOLLOWED))
        await anext(streams[-1])
        for stream in streams:
            await stream.aclose()


async def test_followers_end_with_the_service() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        async with following(run) as follower:
            await asyncio.sleep(1)
            await run.pool.leave()
            await asyncio.sleep(1)
            assert isinstance(follower.error, ShuttingDown)
            await run.restart()


@pytest.mark.parametrize("case", ["quiet", "ended", "incomplete", "removed"])
async def test_quiet_logs_cost_one_look_at_all_of_them_four_times_a_second(case: str) -> None:
    async with running() as run, AsyncExitStack() as stack:
        for model in ("m", "n"):
            await run.pool.ensure(model)
            run.world.logs.write(model, 1, "a")
            if case == "incomplete":
                run.world.logs.rest[model, 1] = "x" * 60_000
            if case == "ended":
                await run.pool.evict(model)
        for number in range(MAX_FOLLOWERS):
            await stack.enter_async_context(following(run, model="mn"[number % 2]))
        await asyncio.sleep(1)
        if case == "removed":
            run.world.logs.lines.clear()
            await asyncio.sleep(1)
        before = run.world.logs.calls.copy()
        await asyncio.sleep(100)
        calls = run.world.logs.calls - before
        assert calls.keys() == {"states"}
        assert calls["states"] == pytest.approx(400, rel=0.05)


async def test_where_nobody_follows_nothing_is_looked_at() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        async with following(run):
            await asyncio.sleep(1)
        await asyncio.sleep(1)
        before = run.world.logs.calls.copy()
        await asyncio.sleep(100)
        assert run.world.logs.calls == before


async def test_who_waits_for_a_first_log_is_woken_by_the_start_and_looks_at_nothing() -> None:
    async with running() as run:
        run.world.script("m", Script(load=1000.0, prepare=500.0))
        asyncio.get_running_loop().call_later(0, lambda: asyncio.ensure_future(run.ensure()))
        await asyncio.sleep(1)
        async with following(run) as follower:
            before = run.world.logs.calls.copy()
            await asyncio.sleep(400)
            assert run.world.logs.calls == before
            run.world.logs.write("m", 1, "a")
            await asyncio.sleep(200)
            assert follower.told == ["a"]


async def test_a_follower_of_a_server_that_is_replaced_goes_on_with_its_replacement() -> None:
    limits = replace(LIMITS, sample_interval=1.0)
    async with running(limits=limits, memory_limit=120, grace_period=3.0) as run:
        run.world.renewed.add("m")
        first = Script(load=2.0, needs=100, takes=100)
        run.world.script("m", first, Script(load=2.0, needs=100, takes=100))
        await run.ensure()
        run.world.logs.write("m", 1, "of 1")
        async with following(run) as follower:
            first.grown = 30
            await asyncio.sleep(22)
            run.world.logs.write("m", 2, "of 2")
            await asyncio.sleep(20)
            assert follower.told == ["of 1", "end 1", "of 2"]


async def test_a_look_that_fails_is_not_the_last_one() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        async with following(run) as follower:
            await asyncio.sleep(1)
            states = run.world.logs.states
            run.world.logs.states = None  # type: ignore[assignment,method-assign]
            await asyncio.sleep(1)
            run.world.logs.states = states  # type: ignore[method-assign]
            run.world.logs.write("m", 1, "b")
            await asyncio.sleep(1)
            assert follower.told == ["a", "b"]


async def test_so_many_may_read_without_following_and_they_leave_place_for_followers() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        streams = [run.pool.logs.read("m", NEWEST) for _ in range(MAX_READERS)]
        for stream in streams:
            await anext(stream)
        with pytest.raises(TooManyFollowers) as refused:
            await anext(run.pool.logs.read("m", NEWEST))
        assert str(MAX_READERS) in str(refused.value)
        streams.append(run.pool.logs.read("m", FOLLOWED))
        await anext(streams[-1])
        for stream in streams:
            await stream.aclose()
        assert (await read(run)).told == ["a"]


async def test_answers_to_the_probes_of_the_server_are_left_out() -> None:
    async with running() as run:
        server = (await run.ensure()).server
        run.world.logs.write("m", 1, "a")
        await read(run)
        assert server.plan is not None
        assert all(server.plan.health_path in probed for probed in run.world.logs.probed)


async def test_a_position_of_a_removed_generation_goes_on_with_the_next() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 4, "of 4")
        follower = await read(run, LogQuery(LogPosition(2, 99, 10), None))
        assert follower.told == ["end 2", "of 4", "end 4"]


async def test_while_the_service_recovers_no_log_is_read() -> None:
    async with running() as run:
        await run.kill()
        run.pool = run.begin()
        with pytest.raises(Recovering):
            await read(run)
        await run.pool.recover(1.0)


@pytest.mark.parametrize("looks", [False, True])
async def test_whoever_looks_does_not_change_who_is_evicted_next(looks: bool) -> None:
    """The first one was used least of late, whether its log is read or not."""
    async with room() as run:
        for model in ("a", "b", "c"):
            await fill(run, model, size=3)
            run.world.logs.write(model, 1, "line")
            await asyncio.sleep(1)
        before = run.pool.page(None, 10)
        async with AsyncExitStack() as stack:
            for _ in range(5 if looks else 0):
                await stack.enter_async_context(following(run, model="a"))
                await read(run, LogQuery(Whence.OLDEST, None), model="a")
            await asyncio.sleep(20)
            assert run.pool.page(None, 10) == before
            await fill(run, "d", size=3)
            assert there(run) == ["b", "c", "d"]


async def test_following_starts_nothing_and_restarts_nothing() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        async with following(run):
            await asyncio.sleep(1)
            run.world.of("m").end(CRASH)
            await asyncio.sleep(1000)
            assert len(run.world.times("spawn")) == 1


async def test_the_incomplete_last_line_is_shown_and_comes_again_as_a_whole() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "a")
        run.world.logs.rest["m", 1] = "Loading: 50%"
        found = await read(run)
        assert found.told == ["a", "Loading: 50%"]
        assert (await read(run, LogQuery(lines=0))).told == []
        async with following(run) as follower:
            await asyncio.sleep(1)
            assert follower.told == ["a"]
        run.world.logs.write("m", 1, "Loading: 100%")
        run.world.logs.rest.clear()
        again = await read(run, LogQuery(found.parts[-1].position, None))
        assert again.told == ["Loading: 100%"]


async def test_after_the_cursor_of_the_newest_process_come_the_later_ones() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "of 1")
        cursor = (await read(run)).parts[-1].position
        alone = (await read(run, LogQuery(1))).parts[-1].position
        await run.pool.evict("m")
        await run.ensure()
        run.world.logs.write("m", 2, "of 2")
        assert (await read(run, LogQuery(cursor, None))).told == ["end 1", "of 2"]
        assert (await read(run, LogQuery(alone, None))).told == ["end 1"]


async def test_logs_of_a_count_that_was_lost_are_older_than_those_of_the_present_one() -> None:
    """The service lost its records, and gives out the generations from 1 on again."""
    async with running() as run:
        for generation in (7, 8):
            run.world.logs.write("m", generation, f"of {generation}")
        await run.ensure()
        run.world.logs.write("m", 1, "of 1")
        assert (await read(run)).told == ["of 1"]
        everything = ["of 7", "end 7", "of 8", "end 8", "of 1"]
        assert (await read(run, LogQuery(Whence.OLDEST, None))).told == everything


async def test_a_cursor_of_another_service_goes_on_with_all_of_this_one() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, "of 1")
        found = await read(run, LogQuery(LogPosition(9, 99, 10), None))
        assert found.told == ["end 9", "of 1"]


@pytest.mark.parametrize("follow", [False, True])
async def test_a_cursor_of_a_model_without_any_log_is_not_found(follow: bool) -> None:
    async with running() as run:
        with pytest.raises(LogNotFound):
            await read(run, LogQuery(LogPosition(1, 1, 0), None, follow))


async def test_one_that_fails_makes_place_for_another() -> None:
    async with running() as run:
        for _ in range(MAX_FOLLOWERS + 1):
            with pytest.raises(LogNotFound):
                await read(run, FOLLOWED)
        assert run.pool.logs.follower_count == 0


async def test_a_log_that_is_there_before_its_process_is_not_the_newest() -> None:
    """The service lost its records: it is of an earlier process with the same generation."""
    async with running() as run:
        run.world.logs.write("m", 1, "stale 1")
        run.world.logs.write("m", 2, "stale 2")
        run.world.script("m", Script(spawn=100.0))
        call = run.ensure()
        await asyncio.sleep(1)
        assert run.phase("m") is Phase.SPAWNING
        assert (await read(run)).told == ["stale 2", "end 2"]
        async with following(run) as follower:
            await asyncio.sleep(1)
            run.world.logs.replace("m", 1)
            await call
            run.world.logs.write("m", 1, "new")
            await asyncio.sleep(1)
            await run.pool.evict("m")
            await asyncio.sleep(1)
            assert follower.told == ["stale 2", "end 2", "new", "end 1"]


async def test_the_end_of_a_log_that_replaces_another_is_told() -> None:
    async with running() as run:
        run.world.logs.write("m", 1, "stale")
        cursor = (await read(run)).parts[-1].position
        assert cursor.is_ended
        await run.ensure()
        run.world.logs.replace("m", 1, "new")
        await run.pool.evict("m")
        assert (await read(run, LogQuery(cursor, None))).told == ["new", "end 1"]


@pytest.mark.parametrize("lines", [0, 100])
async def test_a_stream_that_breaks_before_its_first_line_loses_none(lines: int) -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, *(["old"] if lines == 0 else []))
        async with following(run, LogQuery(lines=lines, follow=True)) as broken:
            await asyncio.sleep(1)
        run.world.logs.write("m", 1, *map(str, range(200)))
        (part,) = broken.parts
        again = await read(run, LogQuery(part.position, None))
        assert again.told == [*map(str, range(200))]


async def test_without_following_reading_ends_though_lines_come_faster_than_they_are_read() -> None:
    async with running() as run:
        await run.ensure()
        run.world.logs.write("m", 1, *map(str, range(10)))
        told = list[str]()
        async with aclosing(run.pool.logs.read("m", LogQuery(Whence.OLDEST, None))) as parts:
            async for part in parts:
                assert isinstance(part, LogPart)
                told += part.lines
                run.world.logs.write("m", 1, *["later"] * 10)
                assert len(told) < 100
        assert told[:10] == [*map(str, range(10))]
