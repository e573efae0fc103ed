"""A front in the process of the test, composed as ever, over members that the test scripts."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from pool_service.address import Address
from pool_service.core.errors import PoolError
from pool_service.fleet.composition import compose
from pool_service.fleet.config import front_source
from pool_service.rpc.status import status_of
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

LIMIT_S = 60.0

Context = grpc.aio.ServicerContext[Any, Any]


class ScriptedMember:
    """A member that answers calls as the test says, and keeps which it has got.

    answers: by the names of methods; a PoolError is its refusal.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.answers: dict[str, object] = {
            "Beat": pb.BeatResponse(host=host, reachable=True),
            "List": pb.ListResponse(revision=1),
            "ListModels": pb.ListModelsResponse(),
        }
        self.got: list[tuple[str, Any]] = []
        self._server: grpc.aio.Server | None = None

    def __getattr__(self, method: str) -> Callable[[Any, Context], Any]:
        """Return the handler of a method."""
        if not method[0].isupper():
            raise AttributeError(method)

        async def answered(request: object, context: Context) -> object:
            self.got.append((method, request))
            answer = self.answers.get(method)
            if answer is None:
                await asyncio.Event().wait()
            if isinstance(answer, PoolError):
                await context.abort_with_status(status_of(answer))
            return answer

        async def watched(request: object, context: Context) -> AsyncIterator[object]:
            await answered(request, context)
            changes: list[object] = []
            for change in changes:
                yield change

        streams = ("Watch", "Pull", "Hold", "TailLogs")
        return watched if method in streams else answered

    def requests(self, method: str) -> list[Any]:
        """Return the requests of a method that have come."""
        return [request for called, request in self.got if called == method]

    async def stop(self) -> None:
        """End, as a host does that has lost its power."""
        assert self._server is not None
        await self._server.stop(None)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Yield the address at which it is called."""
        self._server = server = grpc.aio.server()
        servicer: Any = self
        pb_grpc.add_PoolServiceServicer_to_server(servicer, server)
        pb_grpc.add_FleetMemberServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)


@asynccontextmanager
async def front_over(
    directory: Path, *members: ScriptedMember, more: str = ""
) -> "AsyncIterator[pb_grpc.PoolServiceAsyncStub]":
    """Yield the stub of a front that sees these members. more: of its configuration."""
    async with AsyncExitStack() as stack, asyncio.timeout(LIMIT_S):
        addresses = [await stack.enter_async_context(one.running()) for one in members]
        listed = zip(members, addresses, strict=True)
        lines = "\n".join(f'{one.host} = "{address}"' for one, address in listed)
        file = directory / "fleet.toml"
        # Members that are late on a busy machine are not lost.
        file.write_text(f"[front]\nlost_after = {LIMIT_S}\n[members]\n{lines}\n{more}")
        source = front_source(file, {}, {})
        parts = compose(source, source.load(), None, None)
        bound = await parts.server.start([Address.parse("127.0.0.1:0")])
        following = asyncio.create_task(parts.fleet.run(parts.membership, parts.leadership))
        try:
            await parts.fleet.settled.wait()
            async with grpc.aio.insecure_channel(bound[0]) as channel:
                yield pb_grpc.PoolServiceStub(channel)
        finally:
            following.cancel()
            await asyncio.wait((following,))
            await parts.server.stop(0)
            parts.audit.close()
