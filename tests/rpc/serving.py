"""The service on loopback over a scripted world, and a client of it."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from opentelemetry.sdk.trace import TracerProvider

from pool_service.access.authentication import Rules
from pool_service.access.fence import Fence
from pool_service.access.fleet import FleetSettings
from pool_service.access.quotas import Quotas
from pool_service.address import Address
from pool_service.announcer import Observer
from pool_service.audit import Audit
from pool_service.change_history import History
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.core.results import Reloaded
from pool_service.core.types import Settings
from pool_service.metrics.call_counts import CallCounts
from pool_service.pool import Pool
from pool_service.rpc.authorization import Authorization
from pool_service.rpc.counting import counting
from pool_service.rpc.fleet_calls import FleetCalls
from pool_service.rpc.fleet_member import FleetMemberServicer
from pool_service.rpc.server import SERVICE, GrpcServer
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.tls import Tls
from pool_service.rpc.wire import Wire
from pool_service.tracing.traces import Traces
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.access.letting_in import admission
from tests.pool.running import BUDGET, DEFAULTS, ports
from tests.rpc.bare import fence as new_fence
from tests.world import Script, World

REVISION = 5000
LIMITS = Limits(backoff_initial=0.01)
"""Nobody waits for long."""

PRINTABLE = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")

DETAILS: Mapping[str, type[Message]] = {
    name: getattr(error_details_pb2, name)
    for name in (
        "ErrorInfo",
        "BadRequest",
        "ResourceInfo",
        "PreconditionFailure",
        "QuotaFailure",
        "RetryInfo",
        "DebugInfo",
        "RequestInfo",
    )
}


@dataclass
class Service:
    """One service and its parts; `stub` speaks to it, and `member` as a front does."""

    world: World
    pool: Pool
    servicer: PoolServicer
    server: GrpcServer
    address: str
    channel: grpc.aio.Channel
    stub: Any
    member: Any
    audit: Audit

    async def ensure(
        self, model: str = "m", runtime_model: str = "", keep_alive: Duration | None = None
    ) -> pb.EnsureResponse:
        request = pb.EnsureRequest(model=model, runtime_model=runtime_model, keep_alive=keep_alive)
        response: pb.EnsureResponse = await self.stub.Ensure(request)
        return response


@dataclass
class Failure:
    """What a caller is told of a failure."""

    code: str
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    pushback: str = ""

    @property
    def reason(self) -> str:
        return str(self.details["ErrorInfo"].reason)


@asynccontextmanager
async def serving(
    *,
    capacity: int = 4096,
    address: str = "127.0.0.1:0",
    limits: Limits = LIMITS,
    recovers: bool = True,
    models: Mapping[str, Settings] | None = None,
    aliases: Mapping[str, str] | None = None,
    only_listed: bool = False,
    counts: CallCounts | None = None,
    observers: Sequence[Observer] = (),
    traced_by: TracerProvider | None = None,
    reload_result: Reloaded | None = None,
    rules: Rules | None = None,
    tls: Tls | None = None,
    fleet: FleetSettings | None = None,
    fence: Fence | None = None,
    **settings: float,
) -> AsyncIterator[Service]:
    """A service with fast scripts; ended as the real one is."""
    world = World()
    world.default = Script(load=0.0)
    defaults = replace(DEFAULTS, **settings)  # type: ignore[arg-type]
    catalogue = Catalogue(defaults, models or {}, aliases or {}, only_listed)
    # The pool comes after what observes it.
    traces = Traces(traced_by, lambda name: pool.models.resolve(name)) if traced_by else None  # noqa: PLW0108
    observing = [*observers, *([traces.observe] if traces else [])]
    pool = Pool(ports(world), History(REVISION, capacity), catalogue, limits, observing)
    if recovers:
        await pool.recover(BUDGET)

    async def reload() -> Reloaded:
        return reload_result or await pool.reload(catalogue, limits)

    audit = Audit(world.events)
    fleet, fence = fleet or FleetSettings(), fence or new_fence()
    servicer = PoolServicer(pool, Wire(world.clock), reload, audit, Quotas(world.clock.now), fleet)
    letting_in = admission(audit, rules)
    server = GrpcServer(
        servicer,
        FleetMemberServicer(pool, servicer, fence, fleet),
        Authorization(letting_in, FleetCalls(fence)),
        inside=[traces.wrap] if traces else [],
        outside=[counting(counts, SERVICE)] if counts is not None else [],
        tls=tls,
    )
    (bound,) = await server.start([Address.parse(address)])
    await server.set_serving()
    checking = asyncio.create_task(letting_in.keep_checking())
    async with grpc.aio.insecure_channel(bound) as channel:
        stubs = pb_grpc.PoolServiceStub(channel), pb_grpc.FleetMemberServiceStub(channel)
        try:
            yield Service(world, pool, servicer, server, bound, channel, *stubs, audit)
        finally:
            checking.cancel()
            await server.set_not_serving()
            await pool.shutdown()
            await server.stop(0)
    world.check()


async def failure(call: Awaitable[object]) -> Failure:
    """The error that a call ends with; fails if it ends with none."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return failure_of(caught.value)


def failure_of(error: grpc.aio.AioRpcError) -> Failure:
    told = Failure(error.code().name, error.details() or "")
    told.size = trailer_size(error)
    told.pushback = str(dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms", ""))
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    if status is None:
        return told
    assert status.code == error.code().value[0]
    assert status.message == error.details()
    for packed in status.details:
        name = packed.TypeName().rpartition(".")[2]
        assert name not in told.details, "each detail once"
        told.details[name] = DETAILS[name]()
        assert packed.Unpack(told.details[name])
    return told


def trailer_size(error: grpc.aio.AioRpcError) -> int:
    """As it travels to a peer that takes no raw bytes: base64, and a percent-encoded message."""
    size = len(quote(error.details() or "", safe=PRINTABLE))
    for key, value in error.trailing_metadata() or ():
        raw = value if isinstance(value, bytes) else str(value).encode()
        size += len(key) + len(b64encode(raw)) + 32
    return size


async def read(
    stream: grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse], count: int
) -> list[pb.WatchResponse]:
    """The next messages of a stream."""
    messages = []
    for _ in range(count):
        message = await stream.read()
        assert isinstance(message, pb.WatchResponse)
        messages.append(message)
    return messages


async def settled_hold(
    stream: grpc.aio.UnaryStreamCall[pb.HoldRequest, pb.HoldResponse],
) -> pb.Server:
    """The server that a stream of Hold tells of as soon as it is READY."""
    while True:
        response = await stream.read()
        assert isinstance(response, pb.HoldResponse)
        if response.server.state == pb.SERVER_STATE_READY:
            return response.server


def gate() -> asyncio.Event:
    """Something to wait for that the test lets happen."""
    return asyncio.Event()
