"""The client for asyncio."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import grpc
import grpc.aio

from pool_service_client import connect, convert
from pool_service_client.errors import PoolError
from pool_service_client.following import Following
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.status import cancelled, ended, error_of
from pool_service_client.types import EnsureResult, Event, EvictedServer, Page, Server
from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1.pool_service_pb2_grpc import PoolServiceStub

if TYPE_CHECKING:
    from pool_service_client.v1.pool_service_pb2_grpc import PoolServiceAsyncStub

Q = TypeVar("Q")
R = TypeVar("R")


class AsyncPoolClient:
    """PoolClient for asyncio: the same methods, promises and errors, awaited.

        async with AsyncPoolClient.connect() as pool:
            server = (await pool.ensure("vllm-mlx/qwen3-4b")).server

    To be made and used in one event loop. Cancelling a task that waits ends its
    wait at once, and nothing else.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        address: str = "the channel's address",
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """Use a channel that the caller made. address: for messages."""
        self._channel = channel
        self._stub = PoolServiceStub(channel)
        self._address = address
        self._retry = retry

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> Self:
        """As PoolClient.connect."""
        target = connect.target(address)
        channel = grpc.aio.insecure_channel(target, options=connect.channel_options())
        return cls(channel, address=target, retry=retry)

    async def close(self) -> None:
        """Close the channel; calls and watches under way end."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def ensure(
        self,
        model: str,
        *,
        runtime_model: str | None = None,
        keep_alive: timedelta | float | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the service is told of it
    ) -> EnsureResult:
        """As PoolClient.ensure."""
        request = convert.ensure_request(model, runtime_model, keep_alive)
        return convert.ensure_result(await self._call(self._stub.Ensure, request, timeout))

    async def evict(
        self,
        model: str,
        *,
        force: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[EvictedServer, ...]:
        """As PoolClient.evict."""
        return await self._evict(pb.EvictRequest(model=model, force=force), timeout)

    async def evict_idle(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[EvictedServer, ...]:
        """As PoolClient.evict_idle."""
        return await self._evict(pb.EvictRequest(idle=True), timeout)

    async def evict_all(
        self,
        *,
        force: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[EvictedServer, ...]:
        """As PoolClient.evict_all."""
        return await self._evict(pb.EvictRequest(all=True, force=force), timeout)

    async def _evict(
        self, request: pb.EvictRequest, limit: float | None
    ) -> tuple[EvictedServer, ...]:
        return convert.evicted_servers(await self._call(self._stub.Evict, request, limit))

    async def list(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[Server]:
        """As PoolClient.list."""
        async for page in self.pages(timeout=timeout):
            for server in page.servers:
                yield server

    async def pages(
        self,
        *,
        page_size: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[Page]:
        """As PoolClient.pages."""
        token = ""
        while True:
            request = pb.ListRequest(page_size=page_size, page_token=token)
            response = await self._call(self._stub.List, request, timeout)
            yield convert.page(response)
            token = response.next_page_token
            if not token:
                return

    def watch(self, after_revision: int | None = None) -> "AsyncWatch":
        """As PoolClient.watch."""
        return AsyncWatch(self._stub, self._address, Following(self._retry, after_revision))

    async def _call(
        self, method: grpc.aio.UnaryUnaryMultiCallable[Q, R], request: Q, limit: float | None
    ) -> R:
        attempts = Attempts(self._retry, limit)
        while True:
            try:
                return await method(request, timeout=attempts.remaining())
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure, address=self._address, timeout=limit)
            except asyncio.CancelledError:
                error = _not_ours(self._address)
            await asyncio.sleep(attempts.failed(error))


class AsyncWatch(AsyncIterator[Event]):
    """As Watch, for one task; `close` or leaving its `async with` ends the stream.

    A wait for an event that is cancelled loses none: the next one resumes.
    """

    def __init__(self, stub: "PoolServiceAsyncStub", address: str, following: Following) -> None:
        """Called by AsyncPoolClient.watch."""
        self._stub = stub
        self._address = address
        self._following = following
        self._events: deque[Event] = deque()
        self._call: grpc.aio.UnaryStreamCall[pb.WatchRequest, pb.WatchResponse] | None = None
        self._closed = False

    @property
    def revision(self) -> int | None:
        """Where another watch could go on; None before the first Synced."""
        return self._following.revision

    def close(self) -> None:
        """End the iteration."""
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

    async def __anext__(self) -> Event:
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            response = await self._read()
            if response is not None:
                self._events.extend(self._following.receive(response))
        return self._events.popleft()

    async def _read(self) -> pb.WatchResponse | None:
        """The next message; None after a break that is over, or once it is closed."""
        call = self._call = self._call or self._stub.Watch(self._following.request())
        try:
            response = await call.read()
        except grpc.aio.AioRpcError as failure:
            error = error_of(failure, address=self._address, timeout=None)
        except asyncio.CancelledError:
            self._call = None
            if self._closed:
                return None
            error = _not_ours(self._address)
        else:
            if isinstance(response, pb.WatchResponse):
                return response
            error = ended()
        self._call = None
        await asyncio.sleep(self._following.failed(error))
        return None


def _not_ours(address: str) -> PoolError:
    """In an `except CancelledError`: raises it on if this task was cancelled.

    grpc.aio raises it also for a call that somebody else ended as CANCELLED.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise  # noqa: PLE0704
    return cancelled(address)
