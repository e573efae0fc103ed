"""The client for programs without asyncio."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self, TypeVar

import grpc

from pool_service_client import connect, convert
from pool_service_client.convert import KeepAlive
from pool_service_client.following import Following
from pool_service_client.holding import Holding, Pulling
from pool_service_client.paging import Paging
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.status import Peer
from pool_service_client.streams import Hold, Stream, Watch, call_error
from pool_service_client.types import (
    EnsureResult,
    EvictedServer,
    Model,
    Page,
    Progress,
    Reloaded,
    Server,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1.pool_service_pb2_grpc import PoolServiceStub

Q = TypeVar("Q")
R = TypeVar("R")


class PoolClient:
    """A connection to a pool service, for any number of threads.

        with PoolClient.connect() as pool:
            server = pool.ensure("vllm-mlx/qwen3-4b").server

    Every method takes `timeout` in seconds for the whole call, its retries
    included, and raises PoolError's subclasses. What the service says will pass is
    retried, as `retry.py` has it: within the timeout, or, without one, for
    `RetryPolicy.patience`.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        address: str = "the channel's address",
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """Use a channel that the caller made. address: for messages."""
        self._channel = channel
        self._stub = PoolServiceStub(channel)
        self._peer = Peer(address)
        self._retry = retry

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        *,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    ) -> Self:
        """A client of the service at host:port or unix:PATH; it connects when it is used.

        address: by default POOL_SERVICE_ADDRESS, or 127.0.0.1:50051. Raises
        ValueError if it is no address.
        """
        target = connect.target(address)
        channel = grpc.insecure_channel(target, options=connect.channel_options())
        return cls(channel, address=target, retry=retry)

    def close(self) -> None:
        """Close the channel; what is under way ends, and holds are released."""
        self._peer.closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def ensure(
        self,
        model: str,
        *,
        runtime_model: str | None = None,
        keep_alive: KeepAlive = None,
        download: bool | None = None,
        timeout: float | None = None,
    ) -> EnsureResult:
        """Wait until the model's server is READY; start it if there is none.

        runtime_model: what the runtime should load, if not what the service would
        choose. keep_alive: how long the server stays when unused, in seconds or as
        a timedelta; None: as it is; 0: goes as soon as it is unused; negative or
        infinite: stays. download: whether missing files may be downloaded, which can
        take long; None: as the service is configured. Giving up does not stop the start.
        """
        request = convert.ensure_request(model, runtime_model, keep_alive, download=download)
        return convert.ensure_result(self._call(self._stub.Ensure, request, timeout), self._peer)

    def hold(
        self,
        model: str,
        *,
        runtime_model: str | None = None,
        keep_alive: KeepAlive = None,
        download: bool | None = None,
        holder: str = "",
    ) -> Hold:
        """Make the model READY, and keep it so until the hold is closed: see Hold.

        As `ensure` otherwise; keep_alive counts from the end of the last hold. holder: a
        label for those who want to evict it.
        """
        request = convert.hold_request(
            model, runtime_model, keep_alive, download=download, holder=holder
        )
        holding = Holding(request, self._retry)
        return Hold(Stream(self._stub.Hold, holding, self._peer), model)

    def evict(
        self, model: str, *, force: bool = False, timeout: float | None = None
    ) -> tuple[EvictedServer, ...]:
        """Stop the model's server; what was stopped, which is nothing if there was none.

        force: also if it is held or has requests in flight, which finish within the
        drain limit.
        Returns when the process is gone; giving up does not stop the eviction.
        """
        return self._evict(pb.EvictRequest(model=model, force=force), timeout)

    def evict_idle(self, *, timeout: float | None = None) -> tuple[EvictedServer, ...]:
        """Stop every READY server that is neither in use nor pinned."""
        return self._evict(pb.EvictRequest(idle=True), timeout)

    def evict_all(
        self, *, force: bool = False, timeout: float | None = None
    ) -> tuple[EvictedServer, ...]:
        """Stop every server, with force also those that are in use."""
        return self._evict(pb.EvictRequest(all=True, force=force), timeout)

    def _evict(self, request: pb.EvictRequest, timeout: float | None) -> tuple[EvictedServer, ...]:
        return convert.evicted_servers(self._call(self._stub.Evict, request, timeout))

    def list(self, *, timeout: float | None = None) -> Iterator[Server]:
        """All servers, ordered by model. The timeout is each page's."""
        for page in self.pages(timeout=timeout):
            yield from page.servers

    def pages(self, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Page]:
        """All pages, each with the pool's totals and its revision, at least one.

        page_size: servers on a page at most; 0: as the service likes. The timeout
        is each page's.
        """
        paging, more = Paging(self._peer), True
        while more:
            request = pb.ListRequest(page_size=page_size, page_token=paging.token)
            response = self._call(self._stub.List, request, timeout)
            yield convert.page(response)
            more = paging.turn(response.next_page_token)

    def watch(self, after_revision: int | None = None) -> "Watch":
        """The present servers, Synced, then every change; or each change after a revision.

        It outlives breaks of the connection and restarts of the service: see Watch.
        """
        return Watch(self._stub.Watch, Following(self._retry, after_revision), self._peer)

    def models(self, *, found: bool = False, timeout: float | None = None) -> Iterator[Model]:
        """Return the models of the configuration, ordered by name. The timeout is each page's.

        found: also models that are not listed: in its cache, with a server, or remembered.
        """
        paging, more = Paging(self._peer), True
        while more:
            request = pb.ListModelsRequest(page_token=paging.token, found=found)
            response = self._call(self._stub.ListModels, request, timeout)
            yield from convert.models(response)
            more = paging.turn(response.next_page_token)

    def pull(self, model: str, *, runtime_model: str | None = None) -> Iterator[Progress]:
        """Download what is missing of the model's files: how far it is, until all are there.

        It begins when it is iterated, and starts no server. Closing the iterator gives it
        up; what was fetched is kept. A download that breaks is resumed.
        """
        pulling = Pulling(convert.pull_request(model, runtime_model), self._retry)
        with Stream(self._stub.Pull, pulling, self._peer) as progress:
            yield from progress

    def forget(self, model: str, *, timeout: float | None = None) -> str:
        """Forget which runtime_model was named for the model; return it, or nothing.

        A server that runs goes on as it is.
        """
        request = pb.ForgetRequest(model=model)
        return self._call(self._stub.Forget, request, timeout).runtime_model

    def reload(self, *, timeout: float | None = None) -> Reloaded:
        """Let the service read its configuration again, and apply what differs.

        Raises ConfigInvalid if that has an error; then nothing is changed.
        """
        return convert.reloaded(self._call(self._stub.Reload, pb.ReloadRequest(), timeout))

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, timeout: float | None
    ) -> R:
        attempts = Attempts(self._retry, timeout)
        while True:
            try:
                return method(request, timeout=attempts.remaining())
            except grpc.RpcError as failure:
                error = call_error(failure, self._peer, timeout)
            time.sleep(attempts.failed(error))
