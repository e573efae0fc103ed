"""Claims about TailLogs on the wire."""

import asyncio

import grpc
import pytest

from pool_service.core.server_logs import LogPosition
from pool_service.log_followers import MAX_FOLLOWERS
from pool_service.rpc.log_validation import log_cursor, log_position
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import Failure, Service, failure, failure_of, serving
from tests.world import settled


def stream(
    service: Service, **fields: object
) -> "grpc.aio.UnaryStreamCall[pb.TailLogsRequest, pb.TailLogsResponse]":
    call: grpc.aio.UnaryStreamCall[pb.TailLogsRequest, pb.TailLogsResponse]
    call = service.stub.TailLogs(pb.TailLogsRequest(**{"model": "m", **fields}))  # type: ignore[arg-type]
    return call


async def tail(service: Service, **fields: object) -> list[pb.TailLogsResponse]:
    return [response async for response in stream(service, **fields)]


async def refused(service: Service, **fields: object) -> Failure:
    return await failure(tail(service, **fields))


async def test_lines_come_with_their_generation_and_then_the_exit_of_the_process() -> None:
    async with serving() as service:
        await service.ensure()
        service.world.logs.write("m", 1, "a", "b")
        (lines,) = await tail(service)
        assert (lines.generation, list(lines.lines), lines.ended) == (1, ["a", "b"], False)
        await service.stub.Evict(pb.EvictRequest(model="m"))
        lines, end = await tail(service)
        assert (end.ended, end.generation, list(end.lines)) == (True, 1, [])
        assert end.exit.cause == pb.EXIT_CAUSE_EVICTED
        assert await tail(service, cursor=lines.cursor) == [end]
        assert await tail(service, cursor=end.cursor) == []


async def test_bytes_that_are_no_text_are_sent_as_text() -> None:
    async with serving() as service:
        await service.ensure()
        service.world.logs.write("m", 1, "ä \udcff")
        (lines,) = await tail(service)
        assert list(lines.lines) == ["ä \\udcff"]


async def test_a_follower_that_goes_makes_place_for_another() -> None:
    async with serving() as service:
        await service.ensure()
        service.world.logs.write("m", 1, "a")
        followers = [stream(service, follow=True) for _ in range(MAX_FOLLOWERS)]
        for follower in followers:
            assert isinstance(await follower.read(), pb.TailLogsResponse)
        failed = await refused(service, follow=True)
        assert (failed.code, failed.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_FOLLOWERS")
        assert {"RetryInfo", "QuotaFailure"} <= set(failed.details)
        followers.pop().cancel()
        await settled(lambda: service.pool.logs.follower_count < MAX_FOLLOWERS)
        followers.append(stream(service, follow=True))
        assert isinstance(await followers[-1].read(), pb.TailLogsResponse)
        for follower in followers:
            follower.cancel()
        await settled(lambda: service.pool.logs.follower_count == 0)


async def test_a_follower_ends_with_the_service_and_is_told_so() -> None:
    async with serving() as service:
        await service.ensure()
        service.world.logs.write("m", 1, "a")
        follower = stream(service, follow=True)
        begin, lines = await follower.read(), await follower.read()
        assert isinstance(begin, pb.TailLogsResponse)
        assert isinstance(lines, pb.TailLogsResponse)
        assert (begin.cursor != "", list(begin.lines), list(lines.lines)) == (True, [], ["a"])
        await service.pool.shutdown()
        end = await follower.read()
        assert isinstance(end, pb.TailLogsResponse)
        assert end.exit.cause == pb.EXIT_CAUSE_SHUTDOWN
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await follower.read()
        assert failure_of(caught.value).reason == "SHUTTING_DOWN"


async def test_a_reader_that_reads_nothing_holds_up_nobody_and_nothing_is_kept_for_it() -> None:
    async with serving() as service:
        await service.ensure()
        line = "x" * 10_000
        service.world.logs.write("m", 1, *[line] * 1000)
        slow = stream(service, follow=True, oldest=True)
        await slow.read()
        reads = -1
        while reads != service.world.logs.calls["read"]:
            reads = service.world.logs.calls["read"]
            await asyncio.sleep(0.2)
        # What fits into the buffers of gRPC and of the sockets.
        assert reads < 1000 / 3
        assert len(await tail(service, oldest=True)) == 334
        slow.cancel()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": ""}, "INVALID_MODEL"),
        ({"model": "a b\n"}, "INVALID_MODEL"),
        ({"model": "../m"}, "INVALID_MODEL"),
        ({"previous": False}, "INVALID_BEGIN"),
        ({"oldest": False}, "INVALID_BEGIN"),
        ({"oldest": True, "lines": 3}, "INVALID_LINES"),
        ({"cursor": "1.2.3.0.0", "lines": 3}, "INVALID_LINES"),
        ({"lines": 10_001}, "INVALID_LINES"),
        ({"cursor": ""}, "INVALID_CURSOR"),
        ({"cursor": "1"}, "INVALID_CURSOR"),
        ({"cursor": "1.2.3.0"}, "INVALID_CURSOR"),
        ({"cursor": "1.2.3.0.2"}, "INVALID_CURSOR"),
        ({"cursor": "01.2.3.0.0"}, "INVALID_CURSOR"),
        ({"cursor": "1.2.-3.0.0"}, "INVALID_CURSOR"),
        ({"cursor": "1.2.٣.0.0"}, "INVALID_CURSOR"),
        ({"cursor": "1.2.3.0.0\n"}, "INVALID_CURSOR"),
        ({"cursor": f"{2**64}.2.3.0.0"}, "INVALID_CURSOR"),
        ({"cursor": f"1.2.{'9' * 4000}.0.0"}, "INVALID_CURSOR"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused(
    fields: dict[str, object], reason: str
) -> None:
    async with serving() as service:
        failed = await refused(service, **fields)
        assert (failed.code, failed.reason) == ("INVALID_ARGUMENT", reason)


@pytest.mark.parametrize(
    "fields",
    [{}, {"follow": True}, {"generation": 3}, {"cursor": "1.2.3.0.0"}, {"previous": True}],
)
async def test_a_model_that_was_never_started_has_no_log(fields: dict[str, object]) -> None:
    async with serving() as service:
        failed = await refused(service, **fields)
        assert (failed.code, failed.reason) == ("NOT_FOUND", "LOG_NOT_FOUND")
        assert failed.details["ResourceInfo"].resource_name == "m"
        assert service.pool.logs.follower_count == 0


@pytest.mark.parametrize("number", [0, 1, 2**63, 2**64 - 1])
def test_a_cursor_stands_for_its_position(number: int) -> None:
    for flag in (False, True):
        position = LogPosition(number, number, number, flag, not flag)
        assert log_position(log_cursor(position)) == position
