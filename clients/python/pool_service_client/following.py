"""What is known between two streams of one call; without I/O, for both clients."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

from pool_service_client import convert
from pool_service_client.errors import PoolError, RevisionCompacted
from pool_service_client.retry import Attempts, RetryPolicy
from pool_service_client.types import Event, Server, ServerChanged, ServerRemoved, Synced
from pool_service_client.v1 import pool_service_pb2 as pb

Q_co = TypeVar("Q_co", covariant=True)
R_contra = TypeVar("R_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)


class Follower(Protocol[Q_co, R_contra, V_co]):
    """How a call goes on whose stream broke. FINITE: its stream may end without an error."""

    FINITE: ClassVar[bool]

    def request(self) -> Q_co:
        """The request of the next stream."""

    def receive(self, response: R_contra) -> Sequence[V_co]:
        """The values that a message of the stream stands for."""

    def failed(self, error: PoolError) -> float:
        """Seconds until the next stream is opened; raises the error if none is to be."""


@dataclass(slots=True)
class Following:
    """A watch: where to go on, and which servers the reader was told of.

    A stream that broke is resumed after the last revision that was seen. If the
    history is gone, a watch that began with the present state begins with it
    again, and tells the reader also which servers have gone meanwhile, so that
    what the reader has put together stays true. One that began after a revision
    cannot know them all, and fails with RevisionCompacted.
    """

    FINITE: ClassVar[bool] = False
    policy: RetryPolicy
    after_revision: int | None = None
    clock: Callable[[], float] = time.monotonic
    revision: int | None = field(init=False)
    _attempts: Attempts = field(init=False)
    _known: dict[tuple[str, int], Server] = field(init=False, default_factory=dict)
    _told: set[tuple[str, int]] = field(init=False, default_factory=set)
    _opened: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.revision = self.after_revision
        self._attempts = Attempts(self.policy, clock=self.clock)

    def request(self) -> pb.WatchRequest:
        """The request of the next stream."""
        self._opened = self.clock()
        self._told.clear()
        return convert.watch_request(self.revision)

    def receive(self, response: pb.WatchResponse) -> tuple[Event, ...]:
        """The events that a message of the stream stands for."""
        self._attempts.succeeded()
        if self.revision is not None and response.revision < self.revision:
            # A service never goes back: what was told since is newer.
            return ()
        event = convert.event(response)
        if isinstance(event, Synced):
            return (*self._gone(event.revision), event)
        if self.revision is not None:
            self.revision = response.revision
        if isinstance(event, ServerChanged):
            self._known[_key(event.server)] = event.server
            self._told.add(_key(event.server))
        elif isinstance(event, ServerRemoved):
            self._known.pop(_key(event.server), None)
        return () if event is None else (event,)

    def _gone(self, revision: int) -> tuple[ServerRemoved, ...]:
        """Synced: what was known before and was not told of now is no longer there."""
        self.revision = revision
        gone = [key for key in self._known if key not in self._told]
        return tuple(ServerRemoved(revision, self._known.pop(key)) for key in gone)

    def failed(self, error: PoolError) -> float:
        """Seconds until the next stream is opened; raises the error if none is to be."""
        if isinstance(error, RevisionCompacted) and self._can_begin_again():
            self.revision = None
            # Not at once: who says so again and again would be asked as often.
            return self._attempts.pause()
        if self.clock() - self._opened > self.policy.patience:
            self._attempts.succeeded(since=self._opened)
        return self._attempts.failed(error)

    def _can_begin_again(self) -> bool:
        return self.after_revision is None and self.revision is not None


def _key(server: Server) -> tuple[str, int]:
    return server.model, server.generation
