"""The client for programs without asyncio."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self, TypeVar, cast

import grpc

from pool_service_client import connect, convert
from pool_service_client.errors import PoolError
from pool_service_client.following import Following
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.status import FailedCall, ended, error_of
from pool_service_client.types import EnsureResult, Event, EvictedServer, Page, Server
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
        self._address = address
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
        """Close the channel; calls and watches under way end."""
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
        keep_alive: timedelta | float | None = None,
        timeout: float | None = None,
    ) -> EnsureResult:
        """Wait until the model's server is READY; start it if there is none.

        runtime_model: what the runtime should load, if not what the service would
        choose. keep_alive: how long the server stays when unused, in seconds or as
        a timedelta; None: as it is; 0: goes as soon as it is unused; negative or
        infinite: stays. Giving up does not stop the start.
        """
        request = convert.ensure_request(model, runtime_model, keep_alive)
        return convert.ensure_result(self._call(self._stub.Ensure, request, timeout))

    def evict(
        self, model: str, *, force: bool = False, timeout: float | None = None
    ) -> tuple[EvictedServer, ...]:
        """Stop the model's server; what was stopped, which is nothing if there was none.

        force: also if requests are in flight; they finish within the drain limit.
        Returns when the process is gone; giving up does not stop the eviction.
        """
        return self._evict(pb.EvictRequest(model=model, force=force), timeout)

    def evict_idle(self, *, timeout: float | None = None) -> tuple[EvictedServer, ...]:
        """Stop every READY server that is not in use."""
        return self._evict(pb.EvictRequest(idle=True), timeout)

    def evict_all(
        self, *, force: bool = False, timeout: float | None = None
    ) -> tuple[EvictedServer, ...]:
        """Stop every server, with force also those that have requests in flight."""
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
        token = ""
        while True:
            request = pb.ListRequest(page_size=page_size, page_token=token)
            response = self._call(self._stub.List, request, timeout)
            yield convert.page(response)
            token = response.next_page_token
            if not token:
                return

    def watch(self, after_revision: int | None = None) -> "Watch":
        """The present servers, Synced, then every change; or each change after a revision.

        It outlives breaks of the connection and restarts of the service: see Watch.
        """
        return Watch(self._stub, self._address, Following(self._retry, after_revision))

    def _call(
        self, method: "grpc.UnaryUnaryMultiCallable[Q, R]", request: Q, timeout: float | None
    ) -> R:
        attempts = Attempts(self._retry, timeout)
        while True:
            try:
                return method(request, timeout=attempts.remaining())
            except grpc.RpcError as failure:
                error = _error_of(failure, self._address, timeout)
            time.sleep(attempts.failed(error))


class _Stream(Protocol):
    """What a watch needs of a call that answers with a stream."""

    def __next__(self) -> pb.WatchResponse: ...

    def cancel(self) -> bool: ...


class Watch(Iterator[Event]):
    """The pool's events, in order, for as long as it is iterated.

    A break is resumed after the last revision seen; it raises PoolUnavailable only
    if the service stays away for `RetryPolicy.patience`. Where the history between
    is gone, a watch that began with the present state begins with it again (with
    ServerRemoved for what has gone, and another Synced); one that began after a
    revision raises RevisionCompacted. `close`, from any thread, ends the iteration.
    """

    def __init__(self, stub: PoolServiceStub, address: str, following: Following) -> None:
        """Called by PoolClient.watch."""
        self._stub = stub
        self._address = address
        self._following = following
        self._events: deque[Event] = deque()
        self._closed = threading.Event()
        self._call: _Stream | None = None

    @property
    def revision(self) -> int | None:
        """Where another watch could go on; None before the first Synced."""
        return self._following.revision

    def close(self) -> None:
        """End the iteration."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __next__(self) -> Event:
        while not self._events:
            self._closed.wait(self._receive())
            if self._closed.is_set():
                raise StopIteration
        return self._events.popleft()

    def _receive(self) -> float:
        """Take the next message; the seconds to wait before the next try."""
        if self._call is None:
            self._call = self._stub.Watch(self._following.request())
        try:
            self._events.extend(self._following.receive(next(self._call)))
        except StopIteration:
            return self._resume(ended())
        except grpc.RpcError as failure:
            return self._resume(_error_of(failure, self._address, None))
        return 0.0

    def _resume(self, error: PoolError) -> float:
        self._call = None
        return 0.0 if self._closed.is_set() else self._following.failed(error)


def _error_of(failure: grpc.RpcError, address: str, timeout: float | None) -> PoolError:
    return error_of(cast("FailedCall", failure), address=address, timeout=timeout)
