"""A watch of which nothing comes, and whose connection may be dead."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from pool_service.fleet.engines.etcd import endpoints, etcd_pb2
from pool_service.fleet.engines.etcd.endpoints import Access, Endpoints

LIMIT_S = 50.0
"""Less than the minute after which gRPC pings a quiet connection by default."""

WATCH = "/etcdserverpb.Watch/Watch"
PING = b"\x00\x00\x08\x06\x00"
"""The beginning of the frame: 8 bytes, of the kind 6, no answer."""

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


@asynccontextmanager
async def counting_pings(port: int) -> AsyncIterator[tuple[str, "asyncio.Queue[None]"]]:
    """Yield an address that leads to a port, and the pings that go there."""
    pings: asyncio.Queue[None] = asyncio.Queue()
    relays = list[asyncio.Task[None]]()
    writers = list[asyncio.StreamWriter]()

    async def relay(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                for _ in range(data.count(PING) if counts else 0):
                    pings.put_nowait(None)
                writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to_there = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, to_there))
        relays.append(asyncio.create_task(relay(reader, to_there, counts=True)))
        relays.append(asyncio.create_task(relay(there, writer, counts=False)))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as proxy:
        yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}", pings
        for writer in writers:
            writer.close()
        await asyncio.gather(*relays)
        for writer in writers:
            with suppress(OSError):
                await writer.wait_closed()


async def test_a_quiet_watch_is_pinged_for_as_long_as_it_is_quiet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {**dict(endpoints.OPTIONS), "grpc.keepalive_time_ms": 500}
    monkeypatch.setattr(endpoints, "OPTIONS", tuple(options.items()))
    request = etcd_pb2.WatchRequest()
    async with (
        asyncio.timeout(LIMIT_S),
        quiet_server() as port,
        counting_pings(port) as (address, pings),
        Endpoints(Access((address,))).stream(WATCH, request, etcd_pb2.WatchResponse) as stream,
    ):
        reading = asyncio.ensure_future(stream.read())
        for _ in range(6):
            await pings.get()
        reading.cancel()
        await asyncio.wait((reading,))
