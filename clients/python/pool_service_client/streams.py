"""Streams that outlive breaks of the connection, for programs without asyncio."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, cast

import grpc

from pool_service_client.errors import PoolError
from pool_service_client.following import Follower, Following
from pool_service_client.holding import Held
from pool_service_client.status import FailedCall, Peer, ended, error_of
from pool_service_client.types import Event, Server
from pool_service_client.v1 import pool_service_pb2 as pb

Q = TypeVar("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V = TypeVar("V")


class Call(Protocol[R_co]):
    """What is needed of a call that answers with a stream."""

    def __next__(self) -> R_co: ...

    def cancel(self) -> bool: ...


class Closing:
    """What is closed at the end of its `with`."""

    def close(self) -> None:
        """End the iteration."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Stream(Closing, Iterator[V], Generic[Q, R, V]):
    """The values of a call that answers with a stream, which is opened again when it breaks.

    `close`, from any thread, ends the iteration.
    """

    def __init__(
        self, method: Callable[[Q], Call[R]], follower: Follower[Q, R, V], peer: Peer
    ) -> None:
        """Called by PoolClient."""
        self._method = method
        self._follower = follower
        self._peer = peer
        self._values: deque[V] = deque()
        self._closed = threading.Event()
        self._opening = threading.Lock()
        self._call: Call[R] | None = None

    def close(self) -> None:
        """End the iteration, and the call at once."""
        with self._opening:
            self._closed.set()
            if self._call is not None:
                self._call.cancel()

    def __next__(self) -> V:
        while not self._values:
            self._closed.wait(self._receive())
            if self._closed.is_set():
                raise StopIteration
        return self._values.popleft()

    def _receive(self) -> float:
        """Take the next message; the seconds to wait before the next try."""
        call = self._opened()
        if call is None:
            return 0.0
        try:
            self._values.extend(self._follower.receive(next(call)))
        except StopIteration:
            return self._end()
        except grpc.RpcError as failure:
            return self._resume(call_error(failure, self._peer, None))
        return 0.0

    def _opened(self) -> Call[R] | None:
        """The call; None once it is closed, after which none may be begun."""
        with self._opening:
            if self._call is None and not self._closed.is_set():
                self._call = self._method(self._follower.request())
            return self._call

    def _end(self) -> float:
        if self._follower.FINITE:
            self._closed.set()
            return 0.0
        return self._resume(ended())

    def _resume(self, error: PoolError) -> float:
        self._call = None
        return 0.0 if self._closed.is_set() else self._follower.failed(error)


class Watch(Stream[pb.WatchRequest, pb.WatchResponse, Event]):
    """The pool's events, in order, for as long as it is iterated.

    A break is resumed after the last revision seen; it raises PoolUnavailable only
    if the service stays away for `RetryPolicy.patience`. Where the history between
    is gone, a watch that began with the present state begins with it again (with
    ServerRemoved for what has gone, and another Synced); one that began after a
    revision raises RevisionCompacted. `close`, from any thread, ends the iteration.
    """

    def __init__(
        self,
        method: Callable[[pb.WatchRequest], Call[pb.WatchResponse]],
        following: Following,
        peer: Peer,
    ) -> None:
        """Called by PoolClient.watch."""
        super().__init__(method, following, peer)
        self._following = following

    @property
    def revision(self) -> int | None:
        """Where another watch could go on; None before the first Synced."""
        return self._following.revision


class Hold(Closing, Iterator[Server]):
    """A model that is kept READY, from the call of PoolClient.hold until `close`.

        with pool.hold("vllm-mlx/qwen3-4b") as hold:
            server = hold.ready(timeout=120)

    A thread of its own reads the stream and opens it again when it breaks, so that the
    hold lasts whether it is iterated or not. Iterated, it gives the server's states: as
    it is, then the newest after each change. What ended the hold, such as Evicted, is
    raised by the next call of any method. For any number of threads.
    """

    def __init__(self, stream: Stream[pb.HoldRequest, pb.HoldResponse, Server], model: str) -> None:
        """Called by PoolClient.hold."""
        self._stream = stream
        self._held = Held(model)
        self._changed = threading.Condition()
        threading.Thread(target=self._read, name=f"hold {model}", daemon=True).start()

    def ready(self, timeout: float | None = None, after: Server | None = None) -> Server:
        """Wait until the server is READY and return it; at once if it is. It is no call.

        It may have another endpoint than before, so ask whenever one is needed. While the
        service is away, what it said last stands. after: wait for another process than
        that server's, whose endpoint refused a connection before the news of its end
        was here. Raises DeadlineExceeded if it is not READY within `timeout` seconds (the
        hold goes on), and what ended the hold.
        """
        limit = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
        with self._changed:
            server = self._changed.wait_for(lambda: self._held.ready(after), limit)
            if server is None:
                raise self._held.late(timeout, after)
        return server

    def close(self) -> None:
        """Release the model at once, and end the iteration; from any thread."""
        self._stream.close()
        self._tell(self._held.end)

    def __next__(self) -> Server:
        with self._changed:
            self._changed.wait_for(self._held.has_news)
            server = self._held.take()
        if server is None:
            raise StopIteration
        return server

    def _read(self) -> None:
        failure: Exception | None = None
        try:
            for server in self._stream:
                self._tell(partial(self._held.tell, server))
        except Exception as error:  # noqa: BLE001 - for those who ask
            failure = error
        self._tell(partial(self._held.end, failure))

    def _tell(self, news: Callable[[], None]) -> None:
        with self._changed:
            news()
            self._changed.notify_all()


def call_error(failure: grpc.RpcError, peer: Peer, timeout: float | None) -> PoolError:
    """The typed error of a call that raised this."""
    return error_of(cast("FailedCall", failure), peer=peer, timeout=timeout)
