"""What is known of a hold, and of a download, between two of their streams; without I/O."""

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
from pool_service_client.types import Progress, Server, ServerState
from pool_service_client.v1 import pool_service_pb2 as pb

_BREAKS = (PoolUnavailable, Recovering, ShuttingDown)


@dataclass(slots=True)
class Holding:
    """A hold: asked for again as it was, when its stream broke.

    A break of a stream that was alive is a first failure. The failures of a start are
    counted together until the server is READY: else a model that never starts would be
    started again for ever.
    """

    FINITE: ClassVar[bool] = False
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
        """The server's state; nothing for a message that cannot be of the one that is held."""
        if not response.HasField("server"):
            return ()
        server = convert.server(response.server)
        # An alias may have been asked for, so the first message tells the name.
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
    """A download: what was fetched is kept, so each that gets further is a new beginning."""

    FINITE: ClassVar[bool] = True
    asked: pb.PullRequest
    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    _attempts: Attempts = field(init=False)
    _most: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.policy, clock=self.clock)

    def request(self) -> pb.PullRequest:
        return self.asked

    def receive(self, response: pb.PullResponse) -> tuple[Progress, ...]:
        progress = convert.progress(response)
        if self._most is not None and progress.done > self._most:
            self._attempts.succeeded()
        self._most = max(self._most or 0, progress.done)
        return (progress,)

    def failed(self, error: PoolError) -> float:
        return self._attempts.failed(error)


@dataclass(slots=True)
class Held:
    """The newest state of a server that is held, and how the hold ended if it did."""

    model: str
    _newest: Server | None = field(init=False, default=None)
    _unread: bool = field(init=False, default=False)
    _over: bool = field(init=False, default=False)
    _failure: Exception | None = field(init=False, default=None)

    def tell(self, server: Server) -> None:
        """It is now like this."""
        self._newest = server
        self._unread = True

    def end(self, failure: Exception | None = None) -> None:
        """The hold is over: by this failure, or closed by its holder."""
        if self._over:
            return
        self._over = True
        self._failure = failure
        self._unread = self._unread and failure is not None

    def has_news(self) -> bool:
        """Whether `take` has something to say."""
        return self._unread or self._over

    def take(self) -> Server | None:
        """The newest state, once; None after it was closed. Raises what ended the hold."""
        if self._unread:
            self._unread = False
            return self._newest
        if self._failure is not None:
            raise self._failure
        return None

    def ready(self, after: Server | None = None) -> Server | None:
        """The server if it is READY, by another process than `after` is.

        Raises what ended the hold.
        """
        if self._failure is not None:
            raise self._failure
        if self._over:
            raise Cancelled(f"the hold of {self.model!r} was closed", code=StatusCode.CANCELLED)
        newest = self._newest
        if newest is None or newest.state is not ServerState.READY or _same(newest, after):
            return None
        return newest

    def late(self, timeout: float | None, after: Server | None = None) -> DeadlineExceeded:
        """The error of who did not want to wait any longer."""
        newest = self._newest
        wanted = "READY" if after is None else f"READY after generation {after.generation}"
        state = "not known" if newest is None else newest.state.name
        detail = f" ({newest.detail})" if newest is not None and newest.detail else ""
        return DeadlineExceeded(
            f"{self.model!r} was not {wanted} within {timeout:g} s: it is {state}{detail}; "
            "the hold goes on",
            code=StatusCode.DEADLINE_EXCEEDED,
        )


def _same(newest: Server, after: Server | None) -> bool:
    """Whether both tell of one process."""
    return after is not None and (newest.generation, newest.pid) == (after.generation, after.pid)
