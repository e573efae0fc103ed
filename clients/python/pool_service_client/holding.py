"""Resuming the broken stream of a hold or a download; without I/O, for both clients."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from grpc import StatusCode

from pool_service_client import convert
from pool_service_client.errors import (
    Cancelled,
    DeadlineExceeded,
    PoolError,
    PoolUnavailable,
    Recovering,
    ShuttingDown,
)
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.suspicion import Suspicion
from pool_service_client.types import Progress, Server, ServerState
from pool_service_client.v1 import pool_service_pb2 as pb

_BREAKS = (PoolUnavailable, Recovering, ShuttingDown)


@dataclass(slots=True)
class Holding:
    """The state of a hold: a broken stream is followed by another one with the same request.

    A break of a stream that had delivered a state counts as a first failure. The failures of a
    start count together until the server is READY; otherwise a model that never starts would be
    started again for ever.
    """

    is_finite: ClassVar[bool] = False
    asked: pb.HoldRequest
    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    _attempts: Attempts = field(init=False)
    _alive_since: float | None = field(init=False, default=None)
    _model: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.policy, clock=self.clock)

    def request(self) -> pb.HoldRequest:
        self._alive_since, self._model = None, ""
        return self.asked

    def receive(self, response: pb.HoldResponse) -> tuple[Server, ...]:
        """Return the server's state; nothing for a message that cannot be about this hold."""
        if not response.HasField("server"):
            return ()
        server = convert.server(response.server, response.api_key)
        # The caller may have used an alias, so the first message has the model's name.
        self._model = self._model or server.model
        is_ready = server.state is ServerState.READY
        if server.model != self._model or (is_ready and not server.endpoint):
            return ()
        if self._alive_since is None:
            self._alive_since = self.clock()
        if is_ready:
            self._attempts.succeeded()
        return (server,)

    def failed(self, error: PoolError) -> float:
        if self._alive_since is not None and isinstance(error, _BREAKS):
            self._attempts.succeeded(since=self._alive_since)
        return self._attempts.failed(error)


@dataclass(slots=True)
class Pulling:
    """The state of a download. Progress resets the count of failures, as fetched bytes are kept."""

    is_finite: ClassVar[bool] = True
    asked: pb.PullRequest
    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    _attempts: Attempts = field(init=False)
    _furthest: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.policy, clock=self.clock)

    def request(self) -> pb.PullRequest:
        return self.asked

    def receive(self, response: pb.PullResponse) -> tuple[Progress, ...]:
        progress = convert.progress(response)
        if self._furthest is not None and progress.done > self._furthest:
            self._attempts.succeeded()
        self._furthest = max(self._furthest or 0, progress.done)
        return (progress,)

    def failed(self, error: PoolError) -> float:
        return self._attempts.failed(error)


@dataclass(slots=True)
class Held:
    """The newest state of a held server, and how the hold ended."""

    model: str
    _newest: Server | None = field(init=False, default=None)
    _unread: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _failure: Exception | None = field(init=False, default=None)

    def update(self, server: Server) -> None:
        """Set the newest state."""
        self._newest = server
        self._unread = True

    def end(self, failure: Exception | None = None) -> None:
        """End the hold: by a failure, or (None) closed by its holder."""
        if self._over:
            return
        self._over = True
        self._failure = failure
        self._unread = self._unread and failure is not None

    def has_news(self) -> bool:
        """Return whether `take` has a new state, or the end of the hold."""
        return self._unread or self._over

    def take(self) -> Server | None:
        """Return the newest state, once; None after the hold was closed.

        Raises the failure that ended the hold.
        """
        if self._unread:
            self._unread = False
            return self._newest
        if self._failure is not None:
            raise self._failure
        return None

    def ready(self, suspicion: Suspicion | None = None) -> Server | None:
        """Return the server if it is READY, and not one that its caller takes for dead; else None.

        Raises the failure that ended the hold, or Cancelled if it was closed.
        """
        if self._failure is not None:
            raise self._failure
        if self._over:
            raise Cancelled(f"the hold of {self.model!r} was closed", code=StatusCode.CANCELLED)
        newest = self._newest
        if newest is None or newest.state is not ServerState.READY:
            return None
        if suspicion is not None and suspicion.is_of(newest) and not suspicion.is_dispelled:
            return None
        return newest

    def wants_check(self, suspicion: Suspicion) -> bool:
        """Return whether the service is to be asked if the server lives: once, while it is READY.

        A caller that gets True asks.
        """
        newest = self._newest
        if (
            self._over
            or suspicion.has_asked
            or newest is None
            or newest.state is not ServerState.READY
        ):
            return False
        suspicion.has_asked = suspicion.is_of(newest)
        return suspicion.has_asked

    def late(self, timeout: float | None, after: Server | None = None) -> DeadlineExceeded:
        """Return the error of a `ready` whose timeout is over."""
        newest = self._newest
        limit = f"within {timeout:g} s"
        if after is not None and newest is not None and Suspicion(after).is_of(newest):
            told = (
                f"no other server of {self.model!r} than generation {after.generation} was READY "
                f"{limit}, and that one has not answered"
            )
        else:
            state = "not known" if newest is None else newest.state.name
            detail = f" ({newest.detail})" if newest is not None and newest.detail else ""
            told = f"{self.model!r} was not READY {limit}: it is {state}{detail}"
        return DeadlineExceeded(f"{told}; the hold goes on", code=StatusCode.DEADLINE_EXCEEDED)
