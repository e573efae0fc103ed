"""The gRPC server: options, addresses, health and reflection."""

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from pool_service.access.authentication import Kind, ListenAddress
from pool_service.address import Address, AddressError
from pool_service.admission import kind_of
from pool_service.default_socket import make_private
from pool_service.listening import resolve
from pool_service.rpc.authorization import Authorization
from pool_service.rpc.last_calls import LastCalls
from pool_service.rpc.malformed import Registrar, Wrap
from pool_service.rpc.reflection import described_pool
from pool_service.rpc.tls import OPTIONS as TLS_OPTIONS
from pool_service.rpc.tls import Tls
from pool_service.unix_socket import CHECK_INTERVAL_S, UnixSocket
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from pool_service.rpc.fleet_member import FleetMemberServicer

SERVICE = pb.DESCRIPTOR.services_by_name["PoolService"].full_name

FLEET_MEMBER = pb.DESCRIPTOR.services_by_name["FleetMemberService"].full_name

RECORDS = f"{SERVICE}/records"
"""The health service's name for the records: SERVING if changes are written to disk."""

NAMES = (health.OVERALL_HEALTH, SERVICE, RECORDS)
"""All names that the health service knows."""

MAX_CALLS = 20_000
"""Concurrent calls over all connections at one address; a further one gets RESOURCE_EXHAUSTED."""

MAX_STREAMS = 2000
"""Concurrent calls on one connection; further ones wait in the client."""

MAX_PENDING = 10_000
"""Calls that have arrived and are not begun, at one address; further ones are CANCELLED.

Calls that a peer has reset meanwhile count: this bounds the memory that a peer can take by opening
and resetting streams, some 15 KiB each.
"""

MAX_CONNECTIONS = 1000
"""Concurrent connections at one address; a further one is closed, which the client sees as
UNAVAILABLE."""

MAX_HEALTH_WATCHES = 1000
"""Open watches of health, over all addresses: anybody may open some, and must not use up the
calls."""

LARGEST_REQUEST_BYTES = 16 * 1024
"""The largest request accepted. No valid one exceeds 5 KiB, and partial ones occupy memory."""

PING_INTERVAL_MS = 10_000
"""The time without traffic on a connection after which the service pings the client."""

PING_TIMEOUT_MS = 15_000
"""Time to answer a ping, enough for a client that blocks its event loop by computing."""

OPTIONS: list[tuple[str, int]] = [
    # Two services would share the port without an error, and split the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MAX_STREAMS),
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS),
    # By default a stream counts as open after its answer, until gRPC has cleared it away: a client
    # with many calls on one connection would be refused although it keeps to the limit.
    ("grpc.http.overload_protection", 0),
    # By default gRPC refuses calls while over 1,000 are pending, as in a herd. Between these two
    # limits it refuses some of them.
    ("grpc.server.max_pending_requests", MAX_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING + MAX_PENDING // 10),
    ("grpc.max_receive_message_length", LARGEST_REQUEST_BYTES),
    # A connection that says nothing (default 120 s).
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Watches can be quiet for hours: let clients ping, and find clients that vanished or froze.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
    # keepalive_timeout is for the peer's kernel, which answers even for a frozen program;
    # ping_timeout is for the program, and closes the connection of a frozen one.
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    # By default a quiet stream is pinged twice, and then once a minute.
    ("grpc.http2.max_pings_without_data", 0),
    # By default what comes on a quiet connection is answered by a ping, to find out how much a
    # client may send ahead: no request is so large.
    ("grpc.http2.bdp_probe", 0),
]


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Return False for a traceback of gRPC that a client has caused, which is no bug.

    1. ExecuteBatchError: the client was gone before its answer.
    2. UnicodeDecodeError: a header is not UTF-8; gRPC then decodes it as bytes.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ not in {"ExecuteBatchError", "UnicodeDecodeError"}


_HealthContext = grpc.aio.ServicerContext[
    health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
]


class _Health(health.aio.HealthServicer):
    """A health service whose watches can be ended; an open one would delay the server's stop."""

    def __init__(self) -> None:
        super().__init__()
        self._watches: set[asyncio.Task[None]] = set()
        self._ends = False

    async def Check(  # noqa: N802  # its name on the wire
        self,
        request: health_pb2.HealthCheckRequest,
        context: "_HealthContext",
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in NAMES:
            # The base class would send a code without a message.
            known = ", ".join(repr(name) for name in NAMES)
            message = f"no health is kept of {request.service!r}. Ask for one of: {known}."
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        return await super().Check(request, context)

    async def Watch(  # noqa: N802  # its name on the wire
        self,
        request: health_pb2.HealthCheckRequest,
        context: "_HealthContext",
    ) -> None:
        if self._ends:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
        if len(self._watches) >= MAX_HEALTH_WATCHES:
            message = f"{MAX_HEALTH_WATCHES} watches of health are open. Call Check instead."
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        watch = asyncio.create_task(super().Watch(request, context))
        self._watches.add(watch)
        try:
            await asyncio.wait({watch})
            if not watch.cancelled():
                watch.result()
        finally:
            watch.cancel()
            self._watches.discard(watch)

    def end_watches(self) -> None:
        """End the open watches and refuse new ones."""
        self._ends = True
        for watch in self._watches:
            watch.cancel()


class Servicer(Protocol):
    """Implements PoolService, and tells of calls at the end.

    refused_at: the time of the event loop at which the last call was refused. is_ending: calls in
    progress are cancelled soon.
    """

    refused_at: float
    is_ending: bool

    async def end_holds(self) -> None:
        """End the holds that go on without a call."""


class GrpcServer:
    """Serves one PoolService by gRPC. Its health is NOT_SERVING until `set_serving`.

    Each address has a server of its own, with its own limits: callers who use up those of one
    address keep nobody from another, and each call is known by the address at which it came in.
    """

    def __init__(
        self,
        servicer: Servicer,
        fleet_member: "FleetMemberServicer | None",
        authorization: Authorization,
        inside: Sequence[Wrap] = (),
        outside: Sequence[Wrap] = (),
        tls: Tls | None = None,
    ) -> None:
        """authorization: admits each call, or refuses it.

        inside, outside: wrap each handler, and see the calls that are admitted, or all calls; the
        first of each is innermost. tls: of addresses that other machines reach; None: the server
        listens on none.
        """
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_worth_logging)
        self._servicer = servicer
        self._fleet_member = fleet_member
        self._authorization = authorization
        self._inside = inside
        self._outside = outside
        self._tls = tls
        self._health = _Health()
        self._servers: list[grpc.aio.Server] = []
        self._sockets: list[UnixSocket] = []
        self._plain: list[str] = []
        """The addresses without TLS; the default socket may be missing for now."""
        self._last_calls = LastCalls(lambda: servicer.refused_at)

    def _new_server(self, listens: ListenAddress) -> grpc.aio.Server:
        """Return a server that is not started yet. listens: how its calls come in."""
        options = [*OPTIONS, *TLS_OPTIONS] if listens.kind is Kind.NETWORK else OPTIONS
        server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
        wraps, wraps_without = (
            (*self._inside, self._authorization.wrap(listens, by_metadata=found), *self._outside)
            for found in (True, False)
        )
        # Registrar has the methods that generated code calls; the stubs ask for a whole server.
        registrar = cast("grpc.aio.Server", Registrar(server, wraps, wraps_without))
        # Its handlers get a context with the caller, which the stubs do not know.
        handlers = cast("pb_grpc.PoolServiceServicer", self._servicer)
        pb_grpc.add_PoolServiceServicer_to_server(handlers, registrar)
        names = [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
        if self._fleet_member is not None:
            of_member = cast("pb_grpc.FleetMemberServiceServicer", self._fleet_member)
            pb_grpc.add_FleetMemberServiceServicer_to_server(of_member, registrar)
            names.append(FLEET_MEMBER)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        reflected = reflection.aio.ReflectionServicer(names, pool=described_pool())
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            reflected, registrar
        )
        return server

    async def start(
        self, addresses: list[Address], default_socket: Path | None = None
    ) -> list[str]:
        """Listen on all addresses and return them with their actual ports.

        default_socket: a socket to listen on, too. While that is not possible, the log says why,
        and `keep_sockets` tries again.

        Raises AddressError if one address is taken or unusable; then none is served.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            bound = [await self._bind(address) for address in addresses]
            if default_socket is not None:
                bound += self._bind_default(default_socket)
        except AddressError:
            await self.stop(0)
            raise
        for server in self._servers:
            await server.start()
        return bound

    async def keep_sockets(self) -> None:
        """Make removed unix sockets again, until the server stops."""
        while self._sockets:
            await asyncio.sleep(CHECK_INTERVAL_S)
            for unix_socket in self._sockets:
                await unix_socket.restore()

    async def set_serving(self) -> None:
        """Set the health of the service to SERVING."""
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def set_records_kept(self, *, kept: bool) -> None:
        """Set the health of `RECORDS`: SERVING if changes are written to disk."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(RECORDS, status.SERVING if kept else status.NOT_SERVING)

    async def set_not_serving(self) -> None:
        """Set all health to NOT_SERVING for good: the service ends."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Close the addresses, let calls finish for `grace` seconds, then cancel them.

        Waits first until arrived calls have begun, as the pool refuses them with a reason.
        """
        self._servicer.is_ending = True
        self._health.end_watches()
        await self._last_calls.wait(self._plain, grace)
        sockets, self._sockets = self._sockets, []
        for unix_socket in sockets:
            unix_socket.remove()
        await self._servicer.end_holds()
        servers, self._servers = self._servers, []
        ends = [*(one.stop(grace) for one in servers), *(one.stop(grace) for one in sockets)]
        await asyncio.gather(*ends)

    async def _set_health(self, status: int) -> None:
        for name in (health.OVERALL_HEALTH, SERVICE):
            await self._health.set(name, status)

    async def _bind(self, address: Address) -> str:
        listens = ListenAddress(kind_of(address), address.text)
        server = self._new_server(listens)
        self._servers.append(server)
        if address.path is not None:
            unix_socket = UnixSocket(address.path, lambda: self._new_server(listens))
            unix_socket.bind(server)
            self._sockets.append(unix_socket)
            self._plain.append(address.text)
            return address.text
        host, _, asked = address.text.rpartition(":")
        port = int(asked)
        found = await resolve(address.text)
        credentials = self._credentials(listens) if listens.kind is Kind.NETWORK else None
        for one in found:
            port = _add(server, one.text(port), credentials)
        listens.text = f"{host}:{port}"
        listens.ends = tuple((one.host, port) for one in found)
        if credentials is None:
            self._plain += [one.text(port) for one in found]
        return listens.text

    def _credentials(self, listens: ListenAddress) -> grpc.ServerCredentials:
        """Return the credentials of an address that other machines reach. Raises AddressError."""
        if self._tls is None:
            raise AddressError(
                f"cannot listen on {listens.text}: other machines reach it, and nothing would be "
                "encrypted. Set tls.cert and tls.key."
            )
        listens.demands_certificate = self._tls.demands_certificate(listens.text)
        return self._tls.credentials(listens.text)

    def _bind_default(self, path: Path) -> list[str]:
        """Return the address of the default socket; nothing if it cannot be had now."""
        listens = ListenAddress(Kind.SOCKET, f"unix:{path}")
        unix_socket = UnixSocket(path, lambda: self._new_server(listens), make_private)
        self._sockets.append(unix_socket)
        self._plain.append(listens.text)
        server = self._new_server(listens)
        if not unix_socket.bind_if_possible(server):
            return []
        self._servers.append(server)
        return [listens.text]


def _add(server: grpc.aio.Server, text: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is not None:
            return server.add_secure_port(text, credentials)
        return server.add_insecure_port(text)
    except RuntimeError as error:
        raise AddressError(
            f"cannot listen on {text}: another program has just taken it. Stop that one, or "
            "choose another address."
        ) from error
