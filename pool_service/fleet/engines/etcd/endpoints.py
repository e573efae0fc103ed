"""Connections to the endpoints of one etcd, of which one at a time is asked."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from pool_service.fleet.engines.etcd import etcd_pb2
from pool_service.fleet.engines.etcd.errors import EtcdRefused, EtcdUnreachable
from pool_service.fleet.engines.etcd.tls_files import TlsFiles, credentials, handshake_flaw

MOVE_ON = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.UNKNOWN,
}
"""The codes after which another endpoint may do better."""

STALE_TOKEN = ("invalid auth token", "revision of auth store is old", "user name is empty")
"""What etcd says in any code when its caller has to authenticate again."""

OPTIONS = (
    # Each channel connects anew, so that it reads its certificates and knows no backoff.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    # Above the 5 s that etcd allows by default.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # By default a quiet watch is pinged twice, and then once a minute.
    ("grpc.http2.max_pings_without_data", 0),
)

Metadata = tuple[tuple[str, str], ...]
LEADER_REQUIRED: Metadata = (("hasleader", "true"),)
"""Has an endpoint that lost the other members of etcd refuse, and end watches."""

Q = TypeVar("Q", bound=Message)
A = TypeVar("A", bound=Message)


@dataclass(frozen=True, slots=True)
class Access:
    """Says how an etcd is reached.

    Attributes:
        endpoints: the client addresses of its members, as HOST:PORT; one at least.
        tls: None: without TLS.
        user, password: of etcd's own authentication; empty: none. Who has a certificate is
            recognised by its common name, if etcd is configured so.
        call_limit_s: how long an endpoint may take for an answer before the next one is asked.
    """

    endpoints: tuple[str, ...]
    tls: TlsFiles | None = None
    user: str = ""
    password: str = field(default="", repr=False)
    call_limit_s: float = 1.0


class Endpoints:
    """Asks one endpoint as long as it answers, then the next one."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._turn = 0
        self._channel: grpc.aio.Channel | None = None
        self._token = ""
        self._flaw: str | None = None
        """Why TLS fails, if it was looked into since the last answer."""
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> str:
        """Return the endpoint that the next call goes to."""
        return self._access.endpoints[self._turn % len(self._access.endpoints)]

    async def call(self, path: str, request: Q, answer: type[A]) -> A:
        """Return the answer to a call. Raises EtcdError."""

        async def ask(channel: grpc.aio.Channel, metadata: Metadata) -> A:
            method = channel.unary_unary(path, type(request).SerializeToString, answer.FromString)
            return await method(request, timeout=self._access.call_limit_s, metadata=metadata)

        return await self._ask(ask)

    async def exchange(self, path: str, request: Q, answer: type[A]) -> A:
        """Return the first answer of a stream to its only request. Raises as `call`."""

        async def ask(channel: grpc.aio.Channel, metadata: Metadata) -> A:
            method = channel.stream_stream(path, type(request).SerializeToString, answer.FromString)
            call = method(iter((request,)), timeout=self._access.call_limit_s, metadata=metadata)
            async for message in call:
                call.cancel()
                return message
            raise await _ended(call)

        return await self._ask(ask)

    @asynccontextmanager
    async def stream(
        self, path: str, request: Q, answer: type[A]
    ) -> AsyncIterator[grpc.aio.StreamStreamCall[Message, A]]:
        """Open a stream at the present endpoint, over a connection of its own.

        Raises EtcdError, or grpc.aio.AioRpcError as the reading from the stream does.
        """
        over = asyncio.Event()

        async def requests() -> AsyncIterator[Q]:
            # etcd ends a stream whose caller will ask nothing more.
            yield request
            await over.wait()

        metadata = await self._metadata()
        channel = self._open()
        try:
            method = channel.stream_stream(path, type(request).SerializeToString, answer.FromString)
            yield method(requests(), metadata=metadata)
        finally:
            over.set()
            await channel.close()

    def leave(self, endpoint: str) -> None:
        """Ask the next endpoint from now on, over a new connection, if `endpoint` is the present.

        Calls that are under way come to their end.
        """
        if endpoint != self.current:
            return
        self._turn += 1
        if self._channel is not None:
            closing = asyncio.create_task(self._channel.close(2 * self._access.call_limit_s))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            self._channel = None

    async def close(self) -> None:
        """Close all connections."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        await asyncio.gather(*self._closing)

    async def _ask(self, ask: Callable[[grpc.aio.Channel, Metadata], Awaitable[A]]) -> A:
        failures = {}
        for _ in self._access.endpoints:
            endpoint = self.current
            try:
                answer = await self._ask_present(ask)
            except grpc.aio.AioRpcError as error:
                if error.code() not in MOVE_ON:
                    raise EtcdRefused(endpoint, error) from error
                failures[endpoint] = error
                self.leave(endpoint)
            else:
                self._flaw = None
                return answer
        raise EtcdUnreachable(failures, await self._explanation(failures))

    async def _explanation(self, endpoints: Iterable[str]) -> str:
        """Return more than gRPC knows of why these endpoints do not answer, as a clause.

        Each row of failures is looked into once.
        """
        tls = self._access.tls
        if tls is not None and self._flaw is None:
            looks = (
                asyncio.to_thread(handshake_flaw, one, tls, self._access.call_limit_s)
                for one in endpoints
            )
            self._flaw = next(filter(None, await asyncio.gather(*looks)), "")
        return self._flaw or ""

    async def _ask_present(self, ask: Callable[[grpc.aio.Channel, Metadata], Awaitable[A]]) -> A:
        """Ask the present endpoint, a second time if the token is no longer valid."""
        try:
            metadata = await self._metadata()
            return await ask(self._connection(), metadata)
        except grpc.aio.AioRpcError as error:
            if not self._token or not any(said in (error.details() or "") for said in STALE_TOKEN):
                raise
            self._token = ""
            metadata = await self._metadata()
            return await ask(self._connection(), metadata)

    async def _metadata(self) -> Metadata:
        """Return what goes with each call; asks for a token first if there is none."""
        if not self._access.user:
            return LEADER_REQUIRED
        if not self._token:
            authenticate = self._connection().unary_unary(
                "/etcdserverpb.Auth/Authenticate",
                etcd_pb2.AuthenticateRequest.SerializeToString,
                etcd_pb2.AuthenticateResponse.FromString,
            )
            who = etcd_pb2.AuthenticateRequest(
                name=self._access.user, password=self._access.password
            )
            answer = await authenticate(who, timeout=self._access.call_limit_s)
            self._token = answer.token
        return (*LEADER_REQUIRED, ("token", self._token))

    def _connection(self) -> grpc.aio.Channel:
        """Return the connection to the present endpoint.

        A call over it has to begin at once: while its caller awaits something else, another
        caller may `leave` the endpoint.
        """
        if self._channel is None:
            self._channel = self._open()
        return self._channel

    def _open(self) -> grpc.aio.Channel:
        """Return a new connection to the present endpoint. Raises EtcdError."""
        tls = self._access.tls
        if tls is None:
            return grpc.aio.insecure_channel(self.current, options=OPTIONS)
        return grpc.aio.secure_channel(self.current, credentials(tls), options=OPTIONS)


async def _ended(call: grpc.aio.StreamStreamCall[Q, A]) -> grpc.aio.AioRpcError:
    """Return the end of a stream that had no answer, as an error."""
    return grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE,
        await call.initial_metadata(),
        await call.trailing_metadata(),
        details="the stream ended without an answer",
    )
