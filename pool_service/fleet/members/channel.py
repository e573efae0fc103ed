"""One connection to a member, with the calls that are open on it."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from pool_service.fleet.members.security import Security
from pool_service.fleet.ports import MemberLost
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

LARGEST_ANSWER_BYTES = 16 * 1024 * 1024
"""Enough for a page of servers or models, which has some MiB at most."""

PING_INTERVAL_MS = 10_000
"""The time without an answer on a connection after which the member is pinged; members allow half
of it."""

PING_TIMEOUT_MS = 10_000
"""The time to answer a ping, after which the calls of the connection end, and go on on another."""

AHEAD_BYTES = 256 * 1024
"""How much a member may send of a stream ahead of its caller, who can be slow: so much is kept for
each. With 10 ms each way, streams bring 11 MB a second."""

OPTIONS: list[tuple[str, str | int]] = [
    # Channels to one address would share one connection, also one that hangs after a cut.
    ("grpc.use_local_subchannel_pool", 1),
    # No proxy of the environment between hosts of a fleet.
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", LARGEST_ANSWER_BYTES),
    # A connect that hangs, as to a host that is cut off, is given up as soon as the beats are.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A host without power tells nobody that a connection is gone, and what was sent to it is sent
    # again ever more seldom: calls would wait for minutes after it has started again.
    ("grpc.keepalive_time_ms", PING_INTERVAL_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.max_pings_without_data", 0),
    # By default what comes on a quiet connection is answered by a ping, to find out how much a
    # member may send ahead: for many a beat one message more each way. What it finds is megabytes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", AHEAD_BYTES),
]


class Channel:
    """A connection to a member. It is not used again after an end: the next one is another."""

    def __init__(self, address: str, security: Security | None) -> None:
        """security: None: the connection does not leave this machine."""
        if security is None:
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(
                address, security.credentials, options=[*OPTIONS, *security.options]
            )
        self.pool = pb_grpc.PoolServiceStub(self._channel)
        self.member = pb_grpc.FleetMemberServiceStub(self._channel)
        self._open = set[Any]()
        self._interrupted = False
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    async def unary(self, call: Any) -> Any:  # noqa: ANN401 - of any method
        """Return the answer of a call on this connection.

        Raises MemberLost if the member is lost meanwhile, and AioRpcError.
        """
        self._open.add(call)
        try:
            return await call
        except asyncio.CancelledError:
            self._raise_if_lost()
            raise
        finally:
            self._end(call)

    async def stream(self, call: Any) -> AsyncGenerator[Any]:  # noqa: ANN401 - of any method
        """Yield the answers of a call on this connection. Raises as `unary`."""
        self._open.add(call)
        try:
            async for answer in call:
                yield answer
        except asyncio.CancelledError:
            self._raise_if_lost()
            raise
        finally:
            call.cancel()
            self._end(call)

    def _raise_if_lost(self) -> None:
        """Raise MemberLost if a call was cancelled by `interrupt`, and not with its task."""
        task = asyncio.current_task()
        if self._interrupted and not (task is not None and task.cancelling()):
            raise MemberLost from None

    @property
    def is_closed(self) -> bool:
        """Whether no call is in progress, and none can be made any more."""
        return self._closing is not None

    def check_open(self) -> None:
        """Raise MemberLost if no call can be made any more, of which gRPC has an error of its own.

        Who has got a link awaits other things before the call, and its member can go meanwhile.
        """
        if self.is_closed:
            raise MemberLost

    def interrupt(self) -> None:
        """Cancel the calls in progress, which raise MemberLost, and close the connection."""
        self._interrupted = True
        for call in self._open:
            call.cancel()
        self._close()

    def retire(self) -> None:
        """Close the connection once its calls in progress have ended."""
        self._retired = True
        if not self._open:
            self._close()

    def _end(self, call: Any) -> None:  # noqa: ANN401 - of any method
        self._open.discard(call)
        if self._retired and not self._open:
            self._close()

    def _close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._channel.close())
