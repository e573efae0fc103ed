"""A member that answers as a test wants, over real connections, and links to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from pool_service.fleet.core import events as ev
from pool_service.fleet.members.link import GrpcLink, Manner
from pool_service.rpc.server import OPTIONS
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

LIMIT_S = 60.0

Context = grpc.aio.ServicerContext[Any, Any]
Fed = asyncio.Queue[ev.Event]


class ScriptedMember(pb_grpc.PoolServiceServicer, pb_grpc.FleetMemberServiceServicer):
    """A member without servers that answers beats only while it may, and no offers at all.

    named: set while it tells the names of its models. failing: how often it fails to do so first.
    """

    def __init__(self, *, answers: bool) -> None:
        self.answers = answers
        self.named = asyncio.Event()
        self.named.set()
        self.failing = 0
        self.beats: asyncio.Queue[None] = asyncio.Queue()
        self.offered = asyncio.Event()
        self.vanishes = asyncio.Event()

    async def Beat(  # noqa: N802 - its name on the wire
        self, request: pb.BeatRequest, context: Context
    ) -> pb.BeatResponse:
        self.beats.put_nowait(None)
        if not self.answers:
            await asyncio.Event().wait()
        return pb.BeatResponse(host="a")

    async def List(  # noqa: N802 - its name on the wire
        self, request: pb.ListRequest, context: Context
    ) -> pb.ListResponse:
        return pb.ListResponse(revision=1)

    async def ListModels(  # noqa: N802 - its name on the wire
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        await self.named.wait()
        if self.failing:
            self.failing -= 1
            await context.abort(grpc.StatusCode.INTERNAL, "a disk has failed")
        return pb.ListModelsResponse(models=[pb.Model(model="m", aliases=["alias"])])

    async def Watch(  # noqa: N802 - its name on the wire
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        await self.vanishes.wait()
        changes: list[pb.WatchResponse] = []
        for change in changes:
            yield change

    async def Offer(  # noqa: N802 - its name on the wire
        self, request: pb.OfferRequest, context: Context
    ) -> pb.OfferResponse:
        self.offered.set()
        await asyncio.Event().wait()
        return pb.OfferResponse()


@asynccontextmanager
async def listening(member: ScriptedMember) -> AsyncIterator[int]:
    """Run a member with the options of a service; yield its port."""
    server = grpc.aio.server(options=OPTIONS)
    pb_grpc.add_PoolServiceServicer_to_server(member, server)
    pb_grpc.add_FleetMemberServiceServicer_to_server(member, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def linked(port: int, manner: Manner) -> AsyncIterator[tuple[GrpcLink, Fed]]:
    """Follow the member at a port; yield the link to it, and the events that the link feeds."""
    fed: Fed = asyncio.Queue()
    link = GrpcLink("a", f"127.0.0.1:{port}", fed.put_nowait, manner)
    try:
        yield link, fed
    finally:
        link.close()


async def next_of(fed: Fed, kind: type[ev.Event]) -> ev.Event:
    """Return the next event of a kind, and drop those before it."""
    while not isinstance(event := await fed.get(), kind):
        pass
    return event
