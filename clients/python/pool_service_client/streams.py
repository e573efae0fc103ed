"""Streams for threads that are opened again when they break."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar, cast

import grpc

from pool_service_client import convert
from pool_service_client.errors import PoolError
from pool_service_client.following import Follower, Following
from pool_service_client.holding import Held
from pool_service_client.status import FailedCall, Peer, error_of, stream_ended_error
from pool_service_client.suspicion import GRACE_S, Suspicion
from pool_service_client.types import Event, Server
from pool_service_client.v1 import pool_service_pb2 as pb

if TYPE_CHECKING:
    from openai import OpenAI

SIGNAL_DELAY_S: Final = 0.1
"""Time for which the main thread waits in one piece.

A signal that arrives just before the wait does not end it, so that Ctrl-C would seem lost. The
figure is gRPC's (MAXIMUM_WAIT_TIMEOUT in its package).
"""

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
V = TypeVar("V")


class Call(Protocol[R_co]):
    """The methods of a call with a stream of responses that Stream uses."""

    def __next__(self) -> R_co: ...

    def cancel(self) -> bool: ...


class Closeable:
    """A context manager that calls `close` at its end."""

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


class Stream(Closeable, Iterator[V], Generic[Q, R, V]):
    """An iterator over the values of a call's stream, which is opened again when it breaks.

    `close`, from any thread, ends the iteration.
    """

    def __init__(
        self, method: Callable[[Q], Call[R]], follower: Follower[Q, R, V], peer: Peer
    ) -> None:
        """Use the methods of PoolClient instead."""
        self._method = method
        self._follower = follower
        self._peer = peer
        self._values: deque[V] = deque()
        self._closed = threading.Event()
        self._opening = threading.Lock()
        self._call: Call[R] | None = None

    def close(self) -> None:
        """Cancel the call, and end the iteration."""
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
        """Receive the next message; return the seconds to wait before the next attempt."""
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
        """Return the present call, or a new one; None if the stream was closed."""
        with self._opening:
            if self._call is None and not self._closed.is_set():
                self._call = self._method(self._follower.request())
            return self._call

    def _end(self) -> float:
        if self._follower.is_finite:
            self._closed.set()
            return 0.0
        return self._resume(stream_ended_error())

    def _resume(self, error: PoolError) -> float:
        self._call = None
        return 0.0 if self._closed.is_set() else self._follower.failed(error)


class Watch(Stream[pb.WatchRequest, pb.WatchResponse, Event]):
    """An endless iterator over the pool's events, in order.

    After a break it resumes with the last revision that it has yielded. It raises PoolUnavailable
    only if the service cannot be reached for `RetryPolicy.patience`. If the service no longer has
    the changes in between, a watch that began with the present state begins again: it also yields
    ServerRemoved for the servers that have gone, and another Synced. A watch that began after a
    revision raises RevisionCompacted then. `close`, from any thread, ends the iteration.
    """

    def __init__(
        self,
        method: Callable[[pb.WatchRequest], Call[pb.WatchResponse]],
        following: Following,
        peer: Peer,
    ) -> None:
        """Use PoolClient.watch instead."""
        super().__init__(method, following, peer)
        self._following = following

    @property
    def revision(self) -> int | None:
        """The revision after which another watch could resume; None before the first Synced."""
        return self._following.revision


class Hold(Closeable, Iterator[Server]):
    """A model that is kept READY, from the call of PoolClient.hold until `close`.

        with pool.hold("vllm-mlx/qwen3-4b") as hold:
            server = hold.ready(timeout=120)

    A thread of its own reads the stream and opens it again when it breaks, so the hold lasts
    whether or not you iterate it. Iteration yields the server's present state, then its newest
    state after changes. A failure that ends the hold, such as Evicted, is raised by the next call
    of any method. For any number of threads.
    """

    def __init__(
        self,
        stream: Stream[pb.HoldRequest, pb.HoldResponse, Server],
        model: str,
        check: Callable[[pb.GetRequest], "grpc.Future[pb.GetResponse]"],
    ) -> None:
        """Use PoolClient.hold instead. check: asks the service about a server."""
        self._stream = stream
        self._check = check
        self._held = Held(model)
        self._changed = threading.Condition()
        # With the caller's context, which has its trace.
        read = partial(copy_context().run, self._read)
        threading.Thread(target=read, name=f"hold {model}", daemon=True).start()

    def ready(self, timeout: float | None = None, after: Server | None = None) -> Server:
        """Wait until the server is READY, and return it.

        Call it whenever you need the endpoint, which may change: it does not call the service,
        and returns at once if the server is READY. While the service cannot be reached, the last
        known state counts.

        Args:
            timeout: in seconds; None: no limit.
            after: a server to which you have lost a connection. Returns another process as soon
                as that is READY; or this one again, if it lives: as soon as the service says that
                it answers, at the latest after 1.5 s in which nobody has told of its end.

        Raises:
            DeadlineExceeded: the timeout is over; the hold goes on.
            PoolError: the failure that ended the hold.
        """
        limit = math.inf if timeout is None else timeout
        with self._changed:
            if after is None:
                server = _wait_for(self._changed, self._held.ready, limit)
            else:
                server = self._ready_after(Suspicion(after), limit)
            if server is None:
                raise self._held.late(timeout, after)
        return server

    def _ready_after(self, suspicion: Suspicion, limit_s: float) -> Server | None:
        """Wait for a server that its caller may have; None if there is none in time."""
        checks: list[grpc.Future[pb.GetResponse]] = []

        def usable() -> Server | None:
            if self._held.wants_check(suspicion):
                # ValueError: the client was closed just now, which ends the hold, too.
                with suppress(ValueError):
                    checks.append(self._check(suspicion.request))
                    checks[0].add_done_callback(partial(self._take_answer, suspicion))
            return self._held.ready(suspicion)

        try:
            server = _wait_for(self._changed, usable, min(limit_s, GRACE_S))
            if server is not None or limit_s <= GRACE_S:
                return server
            suspicion.end_grace()
            return _wait_for(self._changed, usable, limit_s - GRACE_S)
        finally:
            for check in checks:
                check.cancel()

    def _take_answer(self, suspicion: Suspicion, check: "grpc.Future[pb.GetResponse]") -> None:
        """Take the answer to a check; a check that failed says nothing."""
        with suppress(grpc.RpcError, grpc.FutureCancelledError):
            found = convert.found(check.result())
            self._update(lambda: suspicion.told(found))

    def openai(self, **options: Any) -> "OpenAI":  # noqa: ANN401 - OpenAI's own
        """Return a client of OpenAI's package whose requests go to the server of the moment.

        A request that finds no server waits for the next one, for as long as it may take. An answer
        that breaks off raises an error. Needs the package `openai`, version 3 or later.

        Args:
            options: of `openai.OpenAI`, but for its `base_url` and `http_client`.
        """
        from pool_service_client.openai_client import openai_client  # noqa: PLC0415 - an extra

        return openai_client(self, **options)

    def close(self) -> None:
        """Release the model at once, and end the iteration; from any thread."""
        self._stream.close()
        self._update(self._held.end)

    def __next__(self) -> Server:
        with self._changed:
            _wait_for(self._changed, self._held.has_news)
            server = self._held.take()
        if server is None:
            raise StopIteration
        return server

    def _read(self) -> None:
        failure: Exception | None = None
        try:
            for server in self._stream:
                self._update(partial(self._held.update, server))
        except Exception as error:  # noqa: BLE001 - raised by the next call of the holder
            failure = error
        self._update(partial(self._held.end, failure))

    def _update(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()


def _wait_for(
    changed: threading.Condition, predicate: Callable[[], P], timeout_s: float = math.inf
) -> P:
    """Wait until `predicate` returns a true value, and return that; a false one at the timeout.

    Unlike Condition.wait_for, the main thread runs handlers of signals within SIGNAL_DELAY_S.
    """
    is_main = threading.current_thread() is threading.main_thread()
    longest_s = SIGNAL_DELAY_S if is_main else threading.TIMEOUT_MAX
    end = time.monotonic() + timeout_s
    while not (result := predicate()) and (left_s := end - time.monotonic()) > 0:
        changed.wait(min(left_s, longest_s))
    return result


def call_error(failure: grpc.RpcError, peer: Peer, timeout: float | None) -> PoolError:
    """Return the typed error of a call that raised an RpcError."""
    return error_of(cast("FailedCall", failure), peer=peer, timeout=timeout)
