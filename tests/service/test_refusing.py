"""The answers to callers of a service that ends, by the stubs alone."""

import asyncio

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.service.conftest import FAKE_RUNTIME, Start

CALLERS = 64


@pytest.mark.parametrize("kept", ["false", "true"])
async def test_none_of_many_calls_at_the_end_is_dropped_without_a_word(
    start: Start, kept: str
) -> None:
    """They have arrived when it ends, but gRPC begins one after the other."""
    service = start(f"service.keep_servers = {kept}\n{FAKE_RUNTIME}")
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        await stub.Ensure(pb.EnsureRequest(model="m"))
        called = asyncio.Event()

        async def call_until_refused() -> grpc.StatusCode:
            while True:
                try:
                    await stub.Ensure(pb.EnsureRequest(model="m"))
                except grpc.aio.AioRpcError as failure:
                    return failure.code()
                called.set()

        callers = [asyncio.create_task(call_until_refused()) for _ in range(CALLERS)]
        await called.wait()
        service.process.terminate()
        assert set(await asyncio.gather(*callers)) == {grpc.StatusCode.UNAVAILABLE}
    assert service.process.wait(60) == 0
    start()  # which ends what was left
