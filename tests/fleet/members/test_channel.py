"""Claims about a connection to a member whose callers are slow, over a real one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from pool_service.fleet.members.channel import AHEAD_BYTES, Channel
from pool_service.rpc.server import OPTIONS
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

LIMIT_S = 60.0
MESSAGE_BYTES = 64 * 1024
MESSAGES = 500
CALLS = 50

Context = grpc.aio.ServicerContext[Any, Any]


class TellingMember(pb_grpc.PoolServiceServicer):
    """A member that tells much, as fast as it can. told: how many changes it has sent."""

    def __init__(self) -> None:
        self.told = 0

    async def Watch(  # noqa: N802 - its name on the wire
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        for _ in range(MESSAGES):
            self.told += 1
            yield pb.WatchResponse(server=pb.Server(model="x" * MESSAGE_BYTES))

    async def List(  # noqa: N802 - its name on the wire
        self, request: pb.ListRequest, context: Context
    ) -> pb.ListResponse:
        return pb.ListResponse(next_page_token="x" * MESSAGE_BYTES)


async def test_little_of_a_stream_is_kept_that_nobody_reads_and_other_calls_go_on() -> None:
    member = TellingMember()  # type: ignore[abstract]
    server = grpc.aio.server(options=OPTIONS)
    pb_grpc.add_PoolServiceServicer_to_server(member, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = Channel(f"127.0.0.1:{port}", None)
    try:
        async with (
            asyncio.timeout(LIMIT_S),
            aclosing(channel.stream(channel.pool.Watch(pb.WatchRequest()))) as changes,
        ):
            await anext(changes)
            for _ in range(CALLS):
                await channel.unary(channel.pool.List(pb.ListRequest()))
            assert member.told * MESSAGE_BYTES < 4 * AHEAD_BYTES
            assert len([change async for change in changes]) == MESSAGES - 1
    finally:
        channel.retire()
        await server.stop(None)
