"""Streams for asyncio that are opened again when they break."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import grpc
import grpc.aio

from pool_service_client import convert
from pool_service_client.errors import PoolError
from pool_service_client.following import Follower, Following
from pool_service_client.holding import Held
from pool_service_client.status import Peer, cancelled_error, error_of, stream_ended_error
from pool_service_client.suspicion import GRACE_S, Suspicion
from pool_service_client.types import Event, Server
from pool_service_client.v1 import pool_service_pb2 as pb

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Q = TypeVar("Q")
R = TypeVar("R")
V = TypeVar("V")


class AsyncStream(AsyncIterator[V], Generic[Q, R, V]):
    """Stream for asyncio, for one task; `close` or leaving the context ends the stream.

    Cancelling a wait for a value loses no value: the next wait opens the stream again.
    """

    def __init__(
        self,
        method: Callable[[Q], grpc.aio.UnaryStreamCall[Q, R]],
        follower: Follower[Q, R, V],
        peer: Peer,
    ) -> None:
        """Use the methods of AsyncPoolClient instead."""
        self._method = method
        self._follower = follower
        self._peer = peer
        self._values: deque[V] = deque()
        self._call: grpc.aio.UnaryStreamCall[Q, R] | None = None
        self._closed = False

    def close(self) -> None:
        """Cancel the call, and end the iteration."""
        self._closed = True
        if self._call is not None:
            self._call.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __anext__(self) -> V:
        while not self._values:
            if self._closed:
                raise StopAsyncIteration
            await self._receive()
        return self._values.popleft()

    async def _receive(self) -> None:
        """Receive the next message; after a failure wait until the next attempt is due."""
        call = self._call = self._call or self._method(self._follower.request())
        try:
            response = await call.read()
        except grpc.aio.AioRpcError as failure:
            error = error_of(failure, peer=self._peer, timeout=None)
        except asyncio.CancelledError:
            self._call = None
            if self._closed:
                return
            error = cancelled_by_peer(self._peer)
        else:
            if response is not grpc.aio.EOF:
                self._values.extend(self._follower.receive(cast("R", response)))
                return
            self._closed = self._closed or self._follower.is_finite
            error = stream_ended_error()
        self._call = None
        if not self._closed:
            await asyncio.sleep(self._follower.failed(error))


class AsyncWatch(AsyncStream[pb.WatchRequest, pb.WatchResponse, Event]):
    """Watch for asyncio, for one task; `close` or leaving the context ends the stream.

    Cancelling a wait for an event loses no event: the next wait resumes the stream.
    """

    def __init__(
        self,
        method: Callable[
            [pb.WatchRequest], grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse]
        ],
        following: Following,
        peer: Peer,
    ) -> None:
        """Use AsyncPoolClient.watch instead."""
        super().__init__(method, following, peer)
        self._following = following

    @property
    def revision(self) -> int | None:
        """The revision after which another watch could resume; None before the first Synced."""
        return self._following.revision


class AsyncHold(AsyncIterator[Server]):
    """Hold for asyncio: a task of its own reads the stream. For any number of tasks of one loop."""

    def __init__(
        self,
        stream: AsyncStream[pb.HoldRequest, pb.HoldResponse, Server],
        model: str,
        check: Callable[[pb.GetRequest], Awaitable[pb.GetResponse]],
    ) -> None:
        """Use AsyncPoolClient.hold instead. check: asks the service about a server."""
        self._stream = stream
        self._check = check
        self._held = Held(model)
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name=f"hold {model}")

    async def ready(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as Hold has it
        after: Server | None = None,
    ) -> Server:
        """See Hold.ready."""
        try:
            async with asyncio.timeout(timeout):
                if after is not None:
                    return await self._ready_after(Suspicion(after))
                while (server := self._held.ready()) is None:
                    await self._changed.wait()
                return server
        except TimeoutError:
            raise self._held.late(timeout, after) from None

    async def _ready_after(self, suspicion: Suspicion) -> Server:
        """Wait for a server that its caller may have."""
        checks: list[asyncio.Task[None]] = []
        grace = asyncio.get_running_loop().call_later(
            GRACE_S, lambda: self._update(suspicion.end_grace)
        )
        try:
            while True:
                if self._held.wants_check(suspicion):
                    checks.append(asyncio.create_task(self._take_answer(suspicion)))
                if server := self._held.ready(suspicion):
                    return server
                await self._changed.wait()
        finally:
            grace.cancel()
            for check in checks:
                check.cancel()

    async def _take_answer(self, suspicion: Suspicion) -> None:
        """Take the answer to a check; a check that failed says nothing."""
        with suppress(grpc.aio.AioRpcError):
            found = convert.found(await self._check(suspicion.request))
            self._update(lambda: suspicion.told(found))

    def openai(self, **options: Any) -> "AsyncOpenAI":  # noqa: ANN401 - OpenAI's own
        """See Hold.openai."""
        from pool_service_client.openai_client import (  # noqa: PLC0415 - an extra
            async_openai_client,
        )

        return async_openai_client(self, **options)

    def close(self) -> None:
        """Release the model at once, and end the iteration."""
        self._stream.close()
        self._reader.cancel()
        self._update(self._held.end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        await asyncio.wait((self._reader,))

    async def __anext__(self) -> Server:
        while not self._held.has_news():
            await self._changed.wait()
        server = self._held.take()
        if server is None:
            raise StopAsyncIteration
        return server

    async def _read(self) -> None:
        failure: Exception | None = None
        try:
            async for server in self._stream:
                self._update(partial(self._held.update, server))
        except Exception as error:  # noqa: BLE001 - raised by the next call of the holder
            failure = error
        self._update(partial(self._held.end, failure))

    def _update(self, change: Callable[[], None]) -> None:
        change()
        self._changed.set()
        self._changed = asyncio.Event()


def cancelled_by_peer(peer: Peer) -> PoolError:
    """Return the error for a CancelledError; raise that again if this task was cancelled.

    To be called in an `except CancelledError`: grpc.aio raises it both when this task is cancelled
    and when the service or the client ended the call as CANCELLED.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise  # noqa: PLE0704
    return cancelled_error(peer)
