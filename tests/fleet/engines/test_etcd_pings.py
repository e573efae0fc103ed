"""A watch of which nothing comes, and whose connection may be dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from pool_service.fleet.engines.etcd import endpoints, etcd_pb2
from pool_service.fleet.engines.etcd.endpoints import Access, Endpoints
from tests.fleet.frames import Frame, passed_on

LIMIT_S = 50.0
"""Less than the minute after which gRPC pings a quiet connection by default."""

WATCH = "/etcdserverpb.Watch/Watch"
SERVER_OPTIONS = (("grpc.http2.min_ping_interval_without_data_ms", 1),)


@asynccontextmanager
async def quiet_server() -> AsyncIterator[int]:
    """Yield the port of a server whose watches tell nothing."""

    async def watch(_requests: object, _context: object) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        nothing: list[Any] = []
        for one in nothing:
            yield one

    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler: Any = grpc.stream_stream_rpc_method_handler(watch)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("etcdserverpb.Watch", {"Watch": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_a_quiet_watch_is_pinged_for_as_long_as_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**dict(endpoints.OPTIONS), "grpc.keepalive_time_ms": 500}
    monkeypatch.setattr(endpoints, "OPTIONS", tuple(options.items()))
    request = etcd_pb2.WatchRequest()
    pings: asyncio.Queue[None] = asyncio.Queue()

    def see(frame: Frame) -> None:
        if frame.of_caller and frame.is_ping:
            pings.put_nowait(None)

    async with (
        asyncio.timeout(LIMIT_S),
        quiet_server() as port,
        passed_on(port, see) as between,
        Endpoints(Access((f"127.0.0.1:{between}",))).stream(
            WATCH, request, etcd_pb2.WatchResponse
        ) as stream,
    ):
        reading = asyncio.ensure_future(stream.read())
        for _ in range(6):
            await pings.get()
        reading.cancel()
        await asyncio.wait((reading,))
