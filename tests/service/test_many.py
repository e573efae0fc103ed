"""A real service with very many callers: all are answered, and none of its memory is lost."""

import asyncio
import os
import signal

import grpc
import psutil

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.demo.service import RunningService

STREAMS = 1000
ENSURES = 10_000
MOST_FOR_EACH = 100 * 1024
"""Bytes of the service for a call or stream that is open; gRPC alone takes some 20 KiB."""


def resident(service: RunningService) -> int:
    return psutil.Process(service.process.pid).memory_info().rss


async def test_ten_thousand_ensures_at_once_are_one_start_and_as_many_answers(
    service: RunningService,
) -> None:
    before = resident(service)
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        request = pb.EnsureRequest(model="herd", runtime_model="herd?load=0.2")
        answers = await asyncio.gather(*(stub.Ensure(request) for _ in range(ENSURES)))
    assert sum(answer.started for answer in answers) == 1
    assert len({(a.server.pid, a.server.endpoint, a.server.generation) for a in answers}) == 1
    assert resident(service) - before < ENSURES * MOST_FOR_EACH


async def test_a_thousand_watchers_all_get_every_change(service: RunningService) -> None:
    before = resident(service)
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        watches = [stub.Watch(pb.WatchRequest()) for _ in range(STREAMS)]
        for watch in watches:
            first = await watch.read()
            assert isinstance(first, pb.WatchResponse)
            assert first.HasField("synced")
        await stub.Ensure(pb.EnsureRequest(model="seen"))
        await stub.Evict(pb.EvictRequest(model="seen"))
        told = await asyncio.gather(*map(until_removed, watches))
        assert len(told[0]) > 2
        assert all(one == told[0] for one in told)
        assert resident(service) - before < STREAMS * MOST_FOR_EACH
        for watch in watches:
            watch.cancel()


async def until_removed(
    watch: "grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse]",
) -> list[int]:
    """The revisions that it is told."""
    revisions = []
    while isinstance(change := await watch.read(), pb.WatchResponse):
        revisions.append(change.revision)
        if change.HasField("removed"):
            return revisions
    raise AssertionError("the watch ended")


async def test_a_thousand_holders_all_get_the_next_process(service: RunningService) -> None:
    before = resident(service)
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        first = await stub.Ensure(pb.EnsureRequest(model="held"))
        holds = [stub.Hold(pb.HoldRequest(model="held")) for _ in range(STREAMS)]
        for hold in holds:
            await hold.read()
        (server,) = (await stub.List(pb.ListRequest())).servers
        assert server.holds == STREAMS
        os.kill(first.server.pid, signal.SIGKILL)
        assert await asyncio.gather(*map(next_endpoint, holds)) == [2] * STREAMS
        assert resident(service) - before < STREAMS * MOST_FOR_EACH
        for hold in holds:
            hold.cancel()
        # They are gone when an eviction without force finds nobody who holds it.
        while (await stub.List(pb.ListRequest())).servers[0].holds:
            continue
        assert len((await stub.Evict(pb.EvictRequest(model="held"))).evicted) == 1


async def next_endpoint(hold: "grpc.aio.UnaryStreamCall[pb.HoldRequest, pb.HoldResponse]") -> int:
    """The generation of the server that is READY after the first."""
    while isinstance(response := await hold.read(), pb.HoldResponse):
        if response.server.generation > 1 and response.server.state == pb.SERVER_STATE_READY:
            return response.server.generation
    raise AssertionError("the hold ended")
