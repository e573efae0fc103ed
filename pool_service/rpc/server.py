"""The gRPC server: its options, its addresses, health and reflection."""

import asyncio
import logging
from typing import cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from pool_service.address import Address, AddressError
from pool_service.rpc.described import described_pool
from pool_service.rpc.listening import resolve
from pool_service.rpc.malformed import Registrar
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.unix_socket import LOOK_PACE_S, UnixSocket
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["PoolService"].full_name

RECORDS = f"{SERVICE}/records"
"""In health: whether what is known of servers reaches the disk, and so outlives the service."""

NAMES = (health.OVERALL_HEALTH, SERVICE, RECORDS)
"""Whose health is kept."""

MOST_CALLS = 20_000
"""Calls that are open at once, over all connections; one more is RESOURCE_EXHAUSTED."""

MOST_STREAMS = 2000
"""Calls that are open at once on one connection; more wait in their client."""

MOST_PENDING = 10_000
"""Calls that have arrived and are not begun, over all connections; more are CANCELLED.

Those that a peer has reset meanwhile are among them: this bounds what a peer can cost that opens
streams and resets them at once, some 15 KiB each.
"""

MOST_CONNECTIONS = 1000
"""Connections that are open at once; one more is closed, which a client sees as UNAVAILABLE."""

LARGEST_REQUEST_BYTES = 16 * 1024
"""No valid request is over 5 KiB; half a message is kept until the rest of it comes."""

PING_INTERVAL_MS = 10_000
"""Quiet on a connection after which the service asks whether its peer is still there."""

PING_TIMEOUT_MS = 15_000
"""How long it has to answer: long enough for a program that computes in its event loop."""

OPTIONS: list[tuple[str, int]] = [
    # Two services would share the port without an error, and split the calls.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", MOST_STREAMS),
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    # By default streams that were answered and are not cleared away yet count as open: of a herd
    # on one connection some would be refused, though their client kept to the limit.
    ("grpc.http.overload_protection", 0),
    # By default a herd of over 1,000 calls is shed; between the two limits some calls are.
    ("grpc.server.max_pending_requests", MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", MOST_PENDING + MOST_PENDING // 10),
    ("grpc.max_receive_message_length", LARGEST_REQUEST_BYTES),
    # A connection that says nothing (default 120 s).
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Watches are quiet for long: let callers ping, and find those that vanished or are frozen.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
    # The first is told to the kernel, which answers for a frozen program; the second closes.
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    # By default a stream that is quiet is asked twice, and then once a minute.
    ("grpc.http2.max_pings_without_data", 0),
]


ARRIVAL = 0.02
"""Seconds in which a call that has arrived is begun, if the service has time."""

LULL = 0.05
"""Seconds without a call after which none is on its way: who is refused waits longer."""

LONGEST_LULL = 0.3
"""Seconds for which that is waited for: of very many callers somebody always tries again."""


def _is_of_somebody(record: logging.LogRecord) -> bool:
    """Return False for a traceback of what a caller did, which is nobody's bug.

    He is gone before his answer; or a header of his is no UTF-8, which gRPC then decodes otherwise.
    """
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or kind.__name__ not in {"ExecuteBatchError", "UnicodeDecodeError"}


_HealthContext = grpc.aio.ServicerContext[
    health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
]


class _Health(health.aio.HealthServicer):
    """Health whose watches can be ended: while one is open the server does not end."""

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
            # Else the person who asks reads a code without a word.
            known = ", ".join(repr(name) for name in NAMES)
            told = f"no health is kept of {request.service!r}. Ask for one of: {known}."
            await context.abort(grpc.StatusCode.NOT_FOUND, told)
        return await super().Check(request, context)

    async def Watch(  # noqa: N802  # its name on the wire
        self,
        request: health_pb2.HealthCheckRequest,
        context: "_HealthContext",
    ) -> None:
        if self._ends:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
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
        """End those that are open, and refuse whoever opens one again."""
        self._ends = True
        for watch in self._watches:
            watch.cancel()


class Server:
    """The gRPC server over one PoolServicer. NOT_SERVING until `serving` is called."""

    def __init__(self, servicer: PoolServicer) -> None:
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_somebody)
        self._servicer = servicer
        self._health = _Health()
        self._server = self._new_server()
        self._sockets: list[UnixSocket] = []

    def _new_server(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=MOST_CALLS)
        # It has the methods that generated code calls, which the types do not know.
        registrar = cast("grpc.aio.Server", Registrar(server))
        pb_grpc.add_PoolServiceServicer_to_server(self._servicer, registrar)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflected = reflection.aio.ReflectionServicer(names, pool=described_pool())
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
            reflected, registrar
        )
        return server

    async def start(self, addresses: list[Address]) -> list[str]:
        """Listen on all addresses and return them with their real ports.

        Raises AddressError if one is taken or not to be had; then none is served.
        """
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            bound = [await self._bind(address) for address in addresses]
        except AddressError:
            await self.stop(0)
            raise
        await self._server.start()
        return bound

    async def keep_sockets(self) -> None:
        """Make unix sockets again that were removed, until the server stops."""
        while self._sockets:
            await asyncio.sleep(LOOK_PACE_S)
            for unix_socket in self._sockets:
                await unix_socket.look()

    async def serving(self) -> None:
        """Tell everybody who checks health that calls are welcome."""
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def records_kept(self, *, kept: bool) -> None:
        """Tell everybody who checks `RECORDS`; calls are welcome all the same."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(RECORDS, status.SERVING if kept else status.NOT_SERVING)

    async def not_serving(self) -> None:
        """Tell everybody who checks health that the service ends; it stays so."""
        await self._health.enter_graceful_shutdown()

    async def stop(self, grace: float) -> None:
        """Close the addresses, let calls finish for `grace` seconds, then cut them.

        The pool refuses what is new by now. gRPC does not do so: what has arrived and is not
        begun when it stops it ends as CANCELLED, without a word. So that comes first.
        """
        self._health.end_watches()
        await self._until_nobody_calls(min(grace, LONGEST_LULL))
        sockets, self._sockets = self._sockets, []
        for unix_socket in sockets:
            unix_socket.remove()
        servers = [self._server.stop(grace), *(one.stop(grace) for one in sockets)]
        await asyncio.gather(*servers)

    async def _until_nobody_calls(self, most: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(min(ARRIVAL, most))
        while (last := self._servicer.refused_at) >= began and loop.time() < began + most:
            left = last + LULL - loop.time()
            if left <= 0:
                return
            await asyncio.sleep(left)

    async def _set_health(self, status: int) -> None:
        for name in (health.OVERALL_HEALTH, SERVICE):
            await self._health.set(name, status)

    async def _bind(self, address: Address) -> str:
        if address.path is not None:
            unix_socket = UnixSocket(address.path, self._new_server)
            unix_socket.bind(self._server)
            self._sockets.append(unix_socket)
            return address.text
        host, _, asked = address.text.rpartition(":")
        port = int(asked)
        for one in await resolve(address.text):
            port = self._add(one.text(port))
        return f"{host}:{port}"

    def _add(self, text: str) -> int:
        try:
            return self._server.add_insecure_port(text)
        except RuntimeError as error:
            raise AddressError(
                f"cannot listen on {text}: another program has just taken it. Stop that one, or "
                "choose another address."
            ) from error
