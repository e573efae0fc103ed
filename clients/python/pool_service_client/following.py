"""Resuming a broken stream, in particular a watch; without I/O, for both clients."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

from pool_service_client import convert
from pool_service_client.errors import PoolError, RevisionCompacted
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.types import (
    Event,
    LogEnd,
    LogLines,
    Server,
    ServerChanged,
    ServerRemoved,
    Synced,
)
from pool_service_client.v1 import pool_service_pb2 as pb

Q_co = TypeVar("Q_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)


class Follower(Protocol[Q_co, R_contra, V_co]):
    """The state of a call over all its streams: each break is followed by another stream."""

    @property
    def is_finite(self) -> bool:
        """Whether the stream may end without an error."""

    def request(self) -> Q_co:
        """Return the request that opens the next stream."""

    def receive(self, response: R_contra) -> Sequence[V_co]:
        """Return the values of a message of the stream."""

    def failed(self, error: PoolError) -> float:
        """Return the seconds until the next stream is to be opened; raise a final error."""


@dataclass(slots=True)
class Following:
    """The state of a watch: the revision to resume after, and the servers that were reported.

    1. A broken stream is resumed after the last revision.
    2. If the service no longer has that history, a watch that began with the present state begins
       again, and also yields ServerRemoved for the servers that have gone meanwhile, so that the
       reader's picture stays true.
    3. A watch that began after a revision does not know all servers: it fails with
       RevisionCompacted.
    """

    is_finite: ClassVar[bool] = False
    policy: RetryPolicy
    after_revision: int | None = None
    clock: Callable[[], float] = time.monotonic
    revision: int | None = field(init=False)
    _attempts: Attempts = field(init=False)
    _known: dict[tuple[str, int], Server] = field(init=False, default_factory=dict)
    _reported: set[tuple[str, int]] = field(init=False, default_factory=set)
    _opened: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.revision = self.after_revision
        self._attempts = Attempts(self.policy, clock=self.clock)

    def request(self) -> pb.WatchRequest:
        """Return the request that opens the next stream."""
        self._opened = self.clock()
        self._reported.clear()
        return convert.watch_request(self.revision)

    def receive(self, response: pb.WatchResponse) -> tuple[Event, ...]:
        """Return the events of a message of the stream."""
        self._attempts.succeeded()
        if self.revision is not None and response.revision < self.revision:
            # Revisions never go back: the reader knows something newer.
            return ()
        event = convert.event(response)
        if isinstance(event, Synced):
            return (*self._synced(event.revision), event)
        if self.revision is not None:
            self.revision = response.revision
        if isinstance(event, ServerChanged):
            self._known[_key(event.server)] = event.server
            self._reported.add(_key(event.server))
        elif isinstance(event, ServerRemoved):
            self._known.pop(_key(event.server), None)
        return () if event is None else (event,)

    def _synced(self, revision: int) -> tuple[ServerRemoved, ...]:
        """Return the removals of known servers that the present state no longer has."""
        self.revision = revision
        gone = [key for key in self._known if key not in self._reported]
        return tuple(ServerRemoved(revision, self._known.pop(key)) for key in gone)

    def failed(self, error: PoolError) -> float:
        """Return the seconds until the next stream is to be opened; raise a final error."""
        if isinstance(error, RevisionCompacted) and self._can_begin_again():
            self.revision = None
            # With a pause, in case the service answers so each time.
            return self._attempts.pause()
        if self.clock() - self._opened > self.policy.patience:
            self._attempts.succeeded(since=self._opened)
        return self._attempts.failed(error)

    def _can_begin_again(self) -> bool:
        return self.after_revision is None and self.revision is not None


@dataclass(slots=True)
class Reading:
    """The state of a read log: the request, which a cursor resumes."""

    asked: pb.TailLogsRequest
    policy: RetryPolicy
    clock: Callable[[], float] = time.monotonic
    _attempts: Attempts = field(init=False)
    _opened: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._attempts = Attempts(self.policy, clock=self.clock)

    @property
    def is_finite(self) -> bool:
        """Whether the stream may end without an error."""
        return not self.asked.follow

    def request(self) -> pb.TailLogsRequest:
        """Return the request that opens the next stream."""
        self._opened = self.clock()
        return self.asked

    def receive(self, response: pb.TailLogsResponse) -> tuple[LogLines | LogEnd, ...]:
        """Return the lines of a message of the stream."""
        self._attempts.succeeded()
        self.asked = pb.TailLogsRequest(
            model=self.asked.model, cursor=response.cursor, follow=self.asked.follow
        )
        return convert.log_part(response)

    def failed(self, error: PoolError) -> float:
        """Return the seconds until the next stream is to be opened; raise a final error."""
        if self.asked.follow and self.clock() - self._opened > self.policy.patience:
            self._attempts.succeeded(since=self._opened)
        return self._attempts.failed(error)


def _key(server: Server) -> tuple[str, int]:
    return server.model, server.generation
