"""The asyncio client."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Self, TypeVar, Unpack

import grpc
import grpc.aio

from pool_service_client import bearer, connect, convert, headers
from pool_service_client.aio_streams import AsyncHold, AsyncStream, AsyncWatch, cancelled_by_peer
from pool_service_client.connect import ConnectOptions
from pool_service_client.convert import KeepAlive
from pool_service_client.convert_description import description
from pool_service_client.description import Description
from pool_service_client.following import Following, Reading
from pool_service_client.holding import Holding, Pulling
from pool_service_client.paging import Paging
from pool_service_client.progress import (
    INTERVAL_S,
    OnProgress,
    StartProgress,
    callback_errors,
)
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.starting import START_TIMEOUT_S, Starter
from pool_service_client.status import Peer, error_of
from pool_service_client.suspicion import GRACE_S
from pool_service_client.tls import TlsOptions, tls_for
from pool_service_client.types import (
    EnsureResult,
    EvictedServer,
    Found,
    LogEnd,
    LogLines,
    Model,
    Page,
    Pinned,
    Progress,
    Reloaded,
    Server,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1.pool_service_pb2_grpc import PoolServiceStub

R = TypeVar("R")


class AsyncPoolClient:
    """PoolClient for asyncio: the same methods, promises and errors, awaited.

        async with AsyncPoolClient.connect() as pool:
            server = (await pool.ensure("vllm-mlx/qwen3-4b")).server

    Create and use it in one event loop. Cancelling a task ends its wait at once, but nothing that
    the service has begun.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        address: str = "the channel's address",
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """Use a channel of the caller's. address: the service's name in error messages."""
        self._channel = channel
        self._stub = PoolServiceStub(headers.with_headers(channel, headers.trace_headers))
        self._peer = Peer(address)
        self._retry = retry

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        *,
        token: str | None = None,
        token_file: str | PathLike[str] | None = None,
        ca: str | PathLike[str] | None = None,
        cert: str | PathLike[str] | None = None,
        key: str | PathLike[str] | None = None,
        server_name: str | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> Self:
        """See PoolClient.connect."""
        target = connect.target(address)
        header = bearer.header(token, token_file)
        tls = tls_for(target, TlsOptions(ca, cert, key, server_name))
        channel = connect.open_channel(grpc.aio, target, tls)
        retry = connect.retry_over(target, retry)
        return cls(bearer.showing(channel, header), address=target, retry=retry)

    @classmethod
    async def connect_or_start(
        cls,
        *,
        program: str | PathLike[str] | None = None,
        arguments: Sequence[str] = (),
        start_timeout: float = START_TIMEOUT_S,
        **options: Unpack[ConnectOptions],
    ) -> Self:
        """See PoolClient.connect_or_start; to be awaited."""
        starter = Starter(program, arguments, start_timeout)
        try:
            address = await asyncio.to_thread(starter.address)
        except asyncio.CancelledError:
            starter.give_up()
            raise
        return cls.connect(address, **options)

    async def close(self) -> None:
        """Close the channel: end all calls, and release all holds."""
        self._peer.closed = True
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
        keep_alive: KeepAlive = None,
        download: bool | None = None,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - sent to the service
    ) -> EnsureResult:
        """See PoolClient.ensure; on_progress is called in the event loop."""
        request = convert.ensure_request(model, runtime_model, keep_alive, download=download)
        method: Callable[..., Awaitable[pb.EnsureResponse]] = self._stub.Ensure
        if on_progress is not None:
            method = partial(self._ensure_with_progress, StartProgress(model, on_progress))
        with callback_errors():
            response = await self._call(method, request, timeout)
        return convert.ensure_result(response, self._peer)

    async def _ensure_with_progress(
        self,
        progress: StartProgress,
        request: pb.EnsureRequest,
        timeout: float | None,  # noqa: ASYNC109 - sent to the service
    ) -> pb.EnsureResponse:
        """Make one attempt of Ensure, and report the server's progress meanwhile."""
        call = asyncio.ensure_future(self._stub.Ensure(request, timeout=timeout))
        try:
            while not (await asyncio.wait((call,), timeout=INTERVAL_S))[0]:
                found = await self._looked_up(progress.request)
                if found is not None and not call.done():
                    progress.tell(found)
            return await call
        finally:
            call.cancel()

    async def _looked_up(self, request: pb.GetRequest) -> pb.GetResponse | None:
        with suppress(grpc.aio.AioRpcError):
            return await self._stub.Get(request, timeout=INTERVAL_S)
        return None

    def hold(
        self,
        model: str,
        *,
        runtime_model: str | None = None,
        keep_alive: KeepAlive = None,
        download: bool | None = None,
        holder: str = "",
    ) -> AsyncHold:
        """See PoolClient.hold."""
        request = convert.hold_request(
            model, runtime_model, keep_alive, download=download, holder=holder
        )
        holding = Holding(request, self._retry)
        check = partial(self._stub.Get, timeout=GRACE_S)
        return AsyncHold(AsyncStream(self._stub.Hold, holding, self._peer), model, check)

    async def evict(
        self,
        model: str,
        *,
        force: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[EvictedServer, ...]:
        """See PoolClient.evict."""
        return await self._evict(pb.EvictRequest(model=model, force=force), timeout)

    async def evict_idle(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[EvictedServer, ...]:
        """See PoolClient.evict_idle."""
        return await self._evict(pb.EvictRequest(idle=True), timeout)

    async def evict_all(
        self,
        *,
        force: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[EvictedServer, ...]:
        """See PoolClient.evict_all."""
        return await self._evict(pb.EvictRequest(all=True, force=force), timeout)

    async def _evict(
        self, request: pb.EvictRequest, limit: float | None
    ) -> tuple[EvictedServer, ...]:
        return convert.evicted_servers(await self._call(self._stub.Evict, request, limit))

    async def list(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[Server, ...]:
        """See PoolClient.list."""
        pages = [page async for page in self.pages(timeout=timeout)]
        return tuple(server for page in pages for server in page.servers)

    async def get(
        self,
        model: str,
        *,
        check: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Found:
        """See PoolClient.get."""
        request = pb.GetRequest(model=model, check=check)
        return convert.found(await self._call(self._stub.Get, request, timeout))

    async def pages(
        self,
        *,
        page_size: int = 0,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[Page]:
        """See PoolClient.pages."""
        paging, more = Paging(self._peer), True
        while more:
            request = pb.ListRequest(page_size=page_size, page_token=paging.token)
            response = await self._call(self._stub.List, request, timeout)
            yield convert.page(response)
            more = paging.turn(response.next_page_token)

    def watch(self, after_revision: int | None = None) -> "AsyncWatch":
        """See PoolClient.watch."""
        return AsyncWatch(self._stub.Watch, Following(self._retry, after_revision), self._peer)

    def logs(
        self,
        model: str,
        *,
        generation: int | None = None,
        previous: bool = False,
        oldest: bool = False,
        cursor: str = "",
        lines: int | None = None,
        follow: bool = False,
    ) -> "AsyncStream[pb.TailLogsRequest, pb.TailLogsResponse, LogLines | LogEnd]":
        """See PoolClient.logs."""
        request = convert.log_request(
            model,
            generation,
            previous=previous,
            oldest=oldest,
            cursor=cursor,
            lines=lines,
            follow=follow,
        )
        return AsyncStream(self._stub.TailLogs, Reading(request, self._retry), self._peer)

    async def models(
        self,
        *,
        found: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> tuple[Model, ...]:
        """See PoolClient.models."""
        models: tuple[Model, ...] = ()
        paging, more = Paging(self._peer), True
        while more:
            request = pb.ListModelsRequest(page_token=paging.token, found=found)
            response = await self._call(self._stub.ListModels, request, timeout)
            models += convert.models(response)
            more = paging.turn(response.next_page_token)
        return models

    async def pull(
        self, model: str, *, runtime_model: str | None = None
    ) -> AsyncIterator[Progress]:
        """See PoolClient.pull."""
        pulling = Pulling(convert.pull_request(model, runtime_model), self._retry)
        async with AsyncStream(self._stub.Pull, pulling, self._peer) as stream:
            async for progress in stream:
                yield progress

    async def forget(
        self,
        model: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> str:
        """See PoolClient.forget."""
        request = pb.ForgetRequest(model=model)
        return (await self._call(self._stub.Forget, request, timeout)).runtime_model

    async def pin(
        self,
        model: str,
        *,
        pinned: bool | None = True,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Pinned:
        """See PoolClient.pin."""
        request = pb.PinRequest(model=model, pinned=pinned)
        return convert.pinned(await self._call(self._stub.Pin, request, timeout))

    async def describe(
        self,
        model: str,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Description:
        """See PoolClient.describe."""
        request = pb.DescribeRequest(model=model)
        response = await self._call(self._stub.Describe, request, timeout)
        return description(response)

    async def reload(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> Reloaded:
        """See PoolClient.reload."""
        return convert.reloaded(await self._call(self._stub.Reload, pb.ReloadRequest(), timeout))

    async def _call(
        self, method: Callable[..., Awaitable[R]], request: object, limit: float | None
    ) -> R:
        attempts = Attempts(self._retry, limit)
        while True:
            try:
                return await method(request, timeout=attempts.remaining())
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure, peer=self._peer, timeout=limit)
            except asyncio.CancelledError:
                error = cancelled_by_peer(self._peer)
            await asyncio.sleep(attempts.failed(error))
