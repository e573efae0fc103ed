"""Claims about the calls of a follower at a leader that cannot be called, over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core.values import Lead
from pool_service.fleet.rpc.leader import LEAST_AGE_S, PATIENCE_S, Leader
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.fleet.engines.told import events, logged
from tools.bench.turns import free_ports

LIMIT_S = 60.0

Context = grpc.aio.ServicerContext[Any, Any]


class Front(pb_grpc.PoolServiceServicer):
    """A front that leads, and answers two methods."""

    async def Ensure(  # noqa: N802 - its name on the wire
        self, request: pb.EnsureRequest, context: Context
    ) -> pb.EnsureResponse:
        return pb.EnsureResponse(server=pb.Server(model=request.model))

    async def Hold(  # noqa: N802 - its name on the wire
        self, request: pb.HoldRequest, context: Context
    ) -> AsyncIterator[pb.HoldResponse]:
        yield pb.HoldResponse(server=pb.Server(model=request.model))


class Follower:
    """A front that follows one at a port, with a clock of the test's. opened: its connections."""

    def __init__(self) -> None:
        self.now = 100.0
        self.opened = 0
        self.address = f"127.0.0.1:{free_ports(1)}"
        lead = Lead(leads=False, epoch=1, address=self.address)
        self.leader = Leader(lambda: lead, self._secure, "", lambda: self.now)

    def _secure(self, _name: str, _address: str) -> None:
        self.opened += 1

    async def ensure(self) -> str:
        request = pb.EnsureRequest(model="m")
        answer: pb.EnsureResponse = await self.leader.unary("Ensure", request, b"", LIMIT_S)
        return str(answer.server.model)

    async def hold(self) -> str:
        request = pb.HoldRequest(model="m")
        answers = self.leader.stream("Hold", request, b"", LIMIT_S)
        models = [str(answer.server.model) async for answer in answers]
        return models[0]

    @asynccontextmanager
    async def led(self) -> AsyncIterator[None]:
        """Run the leader during a block."""
        server = grpc.aio.server()
        pb_grpc.add_PoolServiceServicer_to_server(Front(), server)  # type: ignore[abstract]
        server.add_insecure_port(self.address)
        await server.start()
        try:
            yield
        finally:
            await server.stop(None)


@pytest.mark.parametrize("method", ["ensure", "hold"])
async def test_a_caller_learns_after_a_while_that_the_leader_cannot_be_called(method: str) -> None:
    follower = Follower()
    call = getattr(follower, method)
    async with asyncio.timeout(LIMIT_S):
        with logged() as log:
            for _ in range(3):
                # The journey of the call tries again, as another front may lead soon.
                with pytest.raises(grpc.aio.AioRpcError):
                    await call()
                follower.now += PATIENCE_S / 3
            with pytest.raises(PoolUnreachable) as error:
                await call()
        assert follower.address in error.value.message
        assert "onnect" in error.value.message
        assert error.value.retry_after
        assert events(log) == ["the front that leads cannot be called"]
        follower.leader.close()


async def test_a_leader_that_answers_meanwhile_has_all_the_time_again() -> None:
    follower = Follower()
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(grpc.aio.AioRpcError):
            await follower.ensure()
        follower.now += PATIENCE_S / 2
        async with follower.led():
            assert await _until_answered(follower) == "m"
        follower.now += PATIENCE_S / 2
        with pytest.raises(grpc.aio.AioRpcError):
            await follower.ensure()
        # Nobody has asked since, so nothing is known of the time between.
        follower.now += 2 * PATIENCE_S
        with pytest.raises(grpc.aio.AioRpcError):
            await follower.ensure()
        follower.leader.close()


async def test_a_connection_that_fails_is_replaced_by_one_with_certificates_of_today() -> None:
    follower = Follower()
    async with asyncio.timeout(LIMIT_S):
        for _ in range(3):
            with pytest.raises(grpc.aio.AioRpcError):
                await follower.ensure()
        assert follower.opened == 1
        follower.now += LEAST_AGE_S
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await follower.ensure()
        assert follower.opened == 2
        follower.leader.close()


async def _until_answered(follower: Follower) -> str:
    """Return the answer of a leader that has just started, as a journey gets it."""
    while True:
        try:
            return await follower.ensure()
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.05)
