"""Every call is from a known caller who may make it, or is refused before anything happens."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from pool_service.access import tokens
from pool_service.access.authentication import End, Kind, ListenAddress, Local, Rules
from pool_service.access.clients import Client, Clients
from pool_service.access.principal import Principal, Scope
from pool_service.address import Address
from pool_service.metrics.call_counts import CallCounts
from pool_service.rpc.authorization import end_of
from pool_service.rpc.methods import FLEET_MEMBER, NEEDED, OPEN, needed_by
from pool_service.rpc.servicer import PoolServicer
from pool_service.v1 import pool_service_pb2 as pb
from tests.access.letting_in import admission
from tests.pool.running import DEFAULTS
from tests.rpc.bare import server_of
from tests.rpc.serving import failure, failure_of, serving, settled_hold
from tests.rpc.test_traces import Recorded

NOBODY = 65534
ChannelTo = Callable[[str], AbstractAsyncContextManager[grpc.aio.Channel]]
METHODS = {
    f"{service.full_name}/{method.name}": method
    for file in (pb, health_pb2, reflection_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    if f"{service.full_name}/{method.name}" in NEEDED
}
"""The methods by SERVICE/METHOD, from the services' own descriptions."""

CALLERS = {scope: tokens.new_token() for scope in Scope}
"""A token for each scope."""


LISTED = {"m": replace(DEFAULTS, runtime_model="m", grace_period=0.0)}
"""The models that a caller with the scope use may have started."""


def token_rules() -> Rules:
    """Nobody gets in without a token; there is one for each scope, without the right to logs."""
    clients = (
        Client(Principal(scope.name.lower(), scope), tokens.digest(token))
        for scope, token in CALLERS.items()
    )
    return Rules(Local.TOKEN, Clients(clients))


def shows(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def refusal(
    channel: Any,  # noqa: ANN401  # its stubs demand serializers
    path: str,
    metadata: Sequence[tuple[str, str]] = (),
) -> grpc.aio.AioRpcError | None:
    """How a call with an empty request is refused; None if it is answered."""
    method, url = METHODS[path], f"/{path}"
    call: Any
    try:
        if method.client_streaming:
            call = channel.stream_stream(url)(metadata=metadata)
            await call.write(b"")
            await call.read()
        elif method.server_streaming:
            call = channel.unary_stream(url)(b"", metadata=metadata)
            await call.read()
        else:
            call = channel.unary_unary(url)(b"", metadata=metadata)
            await call
    except grpc.aio.AioRpcError as error:
        return error
    call.cancel()
    return None


# --- which scope each method needs ------------------------------------------------------------


@pytest.mark.parametrize("shows", [True, False], ids=["with authorization", "without"])
def test_for_each_registered_method_it_is_decided_who_may_call_it(
    monkeypatch: pytest.MonkeyPatch, *, shows: bool
) -> None:
    registered: set[str] = set()
    found = "_handlers" if shows else "_handlers_without"

    class Server:
        def add_generic_rpc_handlers(self, services: Sequence[object]) -> None:
            registered.update(path[1:] for one in services for path in getattr(one, found))

    monkeypatch.setattr(grpc.aio, "server", lambda **_: Server())
    nothing: Any = None
    servicer = PoolServicer(nothing, nothing, nothing, nothing, nothing)
    server = server_of(servicer, nothing)
    server._new_server(ListenAddress(Kind.SOCKET, "unix:"))
    assert registered == set(NEEDED) == set(METHODS)


def test_what_is_not_decided_needs_the_highest_scope() -> None:
    assert needed_by("another.Service/Method") is Scope.ADMIN


# --- callers that are not known ---------------------------------------------------------------


@asynccontextmanager
async def own(address: str) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield channel


@asynccontextmanager
async def another_users(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel whose connection another user has made."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        os.seteuid(NOBODY)
        try:
            await channel.channel_ready()
        finally:
            os.seteuid(0)
        yield channel


STRANGERS = [
    pytest.param(Rules(Local.TOKEN), own, id="without a token"),
    pytest.param(
        Rules(),
        another_users,
        id="another user",
        marks=pytest.mark.skipif(os.getuid() != 0, reason="connects as another user"),
    ),
]


@pytest.mark.parametrize(("rules", "channel_to"), STRANGERS)
async def test_who_is_not_known_gets_nothing_from_any_method_but_health(
    rules: Rules, channel_to: ChannelTo
) -> None:
    async with serving(rules=rules) as service, channel_to(service.address) as channel:
        for path in METHODS:
            error = await refusal(channel, path)
            if NEEDED[path] is OPEN:
                assert error is None or "UNAUTHENTICATED" not in str(error.code())
                continue
            assert error is not None, path
            refused = failure_of(error)
            assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "TOKEN_MISSING"), path
        assert service.pool.totals().servers == 0
        kept = service.world.events.of("call")
        assert {one["method"] for one in kept} == {
            path.rpartition("/")[2] for path, needed in NEEDED.items() if needed is not OPEN
        }
        assert {one["reason"] for one in kept} == {"TOKEN_MISSING"}


@pytest.mark.skipif(os.getuid() != 0, reason="connects as another user")
async def test_another_user_gets_nothing_though_anybody_may_connect_and_anyone_lets_in() -> None:
    rules = Rules()
    async with serving(rules=rules) as service, another_users(service.address) as channel:
        path = "pool_service.v1.PoolService/List"
        error = await refusal(channel, path)
        assert error is not None
        assert str(NOBODY) in failure_of(error).message
        rules.local = Local.ANYONE
        assert await refusal(channel, path) is None


async def test_the_own_user_needs_no_token_by_loopback_and_by_the_socket(tmp_path: Path) -> None:
    for address in ("127.0.0.1:0", f"unix:{tmp_path}/s"):
        async with serving(address=address) as service:
            await service.ensure("m")


# --- callers that are known -------------------------------------------------------------------


@pytest.mark.parametrize("scope", Scope)
async def test_a_caller_may_call_what_the_scope_permits_and_nothing_else(scope: Scope) -> None:
    async with serving(rules=token_rules()) as service:
        for path, needed in NEEDED.items():
            error = await refusal(service.channel, path, shows(CALLERS[scope]))
            codes = {"OK"} if error is None else {error.code().name}
            if needed is not OPEN and scope < needed:
                assert error is not None
                assert failure_of(error).reason == "SCOPE_MISSING", path
            else:
                assert not codes & {"UNAUTHENTICATED"}, path
                # Logs need a right of their own, and the calls of fronts are for these.
                is_refused = "PERMISSION_DENIED" in codes
                needs_more = path.endswith("/TailLogs") or path.startswith(FLEET_MEMBER)
                assert is_refused is needs_more, path


@pytest.mark.parametrize(
    "request_of",
    [
        pb.EvictRequest(model="m", force=True),
        pb.EvictRequest(idle=True),
        pb.EvictRequest(all=True),
    ],
    ids=["by force", "of the idle", "of all"],
)
async def test_evictions_that_touch_others_need_the_highest_scope(
    request_of: pb.EvictRequest,
) -> None:
    async with serving(rules=token_rules(), models=LISTED) as service:
        await service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=shows(CALLERS[Scope.USE]))
        refused = await failure(service.stub.Evict(request_of, metadata=shows(CALLERS[Scope.USE])))
        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
        assert refused.details["ErrorInfo"].metadata == {"needed": "admin", "scope": "use"}
        assert service.pool.totals().servers == 1
        await service.stub.Evict(request_of, metadata=shows(CALLERS[Scope.ADMIN]))
        assert service.pool.totals().servers == 0


@pytest.mark.parametrize(
    "header",
    [
        shows("pst_" + "a" * 43),
        shows(""),
        (*shows(CALLERS[Scope.ADMIN]), *shows(CALLERS[Scope.READ])),
        (("authorization", "Bearer pst_short"),),
    ],
    ids=["unknown", "empty", "two", "too short"],
)
async def test_what_is_no_known_token_is_refused_also_from_the_own_user(
    header: Sequence[tuple[str, str]],
) -> None:
    async with serving() as service:
        refused = await failure(service.stub.List(pb.ListRequest(), metadata=header))
        assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "TOKEN_UNKNOWN")


async def test_what_a_caller_changes_is_kept_with_its_name() -> None:
    async with serving(rules=token_rules(), models=LISTED) as service:
        request = pb.EnsureRequest(model="m")
        await service.stub.Ensure(request, metadata=shows(CALLERS[Scope.USE]))
        (kept,) = service.world.events.of("call")
        assert (kept["method"], kept["principal"]) == ("Ensure", "use")


async def end_of_stream(stream: grpc.aio.UnaryStreamCall[object, object]) -> None:
    while await stream.read() is not grpc.aio.EOF:
        pass


async def test_streams_end_as_their_token_is_revoked_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pool_service.open_calls.RECHECK_S", 0.01)
    rules = token_rules()
    async with serving(rules=rules, models=LISTED) as service:
        watches = {
            scope: service.stub.Watch(pb.WatchRequest(), metadata=shows(token))
            for scope, token in CALLERS.items()
        }
        hold = service.stub.Hold(pb.HoldRequest(model="m"), metadata=shows(CALLERS[Scope.USE]))
        await settled_hold(hold)
        for watch in watches.values():
            await watch.read()
        left = [Client(Principal("read", Scope.READ), tokens.digest(CALLERS[Scope.READ]))]
        rules.clients = Clients(left)
        for stream in (watches[Scope.USE], watches[Scope.ADMIN], hold):
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await end_of_stream(stream)
            assert failure_of(ended.value).reason == "TOKEN_UNKNOWN"
        assert not watches[Scope.READ].done()
        held = service.pool.page(None, 1)[0]
        assert held.holds == 0


async def test_a_stream_is_to_be_begun_again_as_its_caller_has_other_rights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pool_service.open_calls.RECHECK_S", 0.01)
    rules = token_rules()
    async with serving(rules=rules) as service:
        watch = service.stub.Watch(pb.WatchRequest(), metadata=shows(CALLERS[Scope.USE]))
        await watch.read()
        token = tokens.digest(CALLERS[Scope.USE])
        rules.clients = Clients([Client(Principal("use", Scope.READ), token)])
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await end_of_stream(watch)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_reload_that_demands_tokens_ends_the_streams_of_those_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pool_service.open_calls.RECHECK_S", 0.01)
    rules = Rules()
    async with serving(rules=rules) as service:
        watch = service.stub.Watch(pb.WatchRequest())
        await watch.read()
        rules.local = Local.TOKEN
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await end_of_stream(watch)
        assert failure_of(ended.value).reason == "TOKEN_MISSING"


# --- what is around it ------------------------------------------------------------------------


async def test_a_refused_call_is_counted_and_makes_no_span() -> None:
    counts, recorded = CallCounts(), Recorded()
    rules = Rules(Local.TOKEN)
    async with serving(rules=rules, counts=counts, traced_by=recorded.provider) as service:
        await failure(service.ensure("m"))
        assert counts.ended == {("Ensure", "UNAUTHENTICATED"): 1}
    assert recorded.spans == ()


async def test_a_fault_lets_nobody_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> int | None:
        raise LookupError("a bug")

    async with serving() as service:
        monkeypatch.setattr(
            "pool_service.adapters.sockets.peer_users.SockDiagUsers.user_at", broken
        )
        monkeypatch.setattr("pool_service.adapters.sockets.peer_users.LibprocUsers.user_at", broken)
        refused = await failure(service.ensure("m"))
        assert (refused.code, refused.reason) == ("INTERNAL", "INTERNAL")
        assert service.pool.totals().servers == 0


async def test_callers_at_one_address_keep_nobody_from_another(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The limit of calls is each address's own."""
    monkeypatch.setattr("pool_service.rpc.server.MAX_CALLS", 1)
    nothing: Any = None
    servicer = PoolServicer(nothing, nothing, nothing, nothing, nothing)
    server = server_of(servicer, admission())
    socket, check = f"unix:{tmp_path}/s", "grpc.health.v1.Health/Check"
    tcp, _ = await server.start([Address.parse("127.0.0.1:0"), Address.parse(socket)])
    try:
        async with own(tcp) as filled, own(socket) as other:
            untyped: Any = filled
            watch = untyped.unary_stream("/grpc.health.v1.Health/Watch")(b"")
            await watch.read()
            error = await refusal(filled, check)
            assert error is not None
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await refusal(other, check) is None
            watch.cancel()
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("peer", "end"),
    [
        ("ipv4:127.0.0.1:4711", ("127.0.0.1", 4711)),
        ("ipv6:%5B::1%5D:4711", ("::1", 4711)),
        ("ipv6:[::1]:4711", ("::1", 4711)),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", ("fe80::1%eth0", 1)),
        ("unix:", None),
        ("unix:/a:1", None),
        ("ipv4:127.0.0.1", None),
        ("ipv4:127.0.0.1:", None),
        ("ipv4:127.0.0.1:x", None),
        ("", None),
    ],
)
def test_the_end_of_a_connection_is_read_from_what_grpc_names_it(
    peer: str, end: End | None
) -> None:
    assert end_of(peer) == end
