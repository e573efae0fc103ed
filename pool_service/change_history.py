"""The history of the pool's changes, numbered, for watchers.

The newest changes are in a ring buffer. A watcher is a position in it: a slow one costs nothing,
and gets RevisionCompacted once the ring has overtaken it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pool_service.core.errors import RevisionCompacted

Server = TypeVar("Server")


@dataclass(frozen=True, slots=True)
class Change(Generic[Server]):
    """A server's new state, or (`removed`) its last state before it was removed."""

    revision: int
    server: Server
    removed: bool


class History(Generic[Server]):
    """Keeps the newest `capacity` changes. Revisions rise by one from `revision` on.

    revision: the first one's predecessor, above every revision of an earlier service
    (`adapters/records/revision_file.py`).
    """

    def __init__(self, revision: int, capacity: int = 4096) -> None:
        self._first = self._revision = revision
        # Beside each other, as there are thousands: a Change of its own for each takes much more.
        self._servers: list[Server | None] = [None] * capacity
        self._removed = bytearray(capacity)
        self._appended = asyncio.Event()
        self._closed = False

    @property
    def revision(self) -> int:
        """The revision of the newest change."""
        return self._revision

    @property
    def oldest(self) -> int:
        """The earliest revision after which every change is still in the history."""
        return max(self._first, self._revision - len(self._servers))

    def append(self, server: Server, *, removed: bool) -> None:
        """Append a change and wake all watchers."""
        self._revision += 1
        place = self._revision % len(self._servers)
        self._servers[place], self._removed[place] = server, removed
        self._wake()

    def close(self) -> None:
        """End every `follow` once it has yielded the last change."""
        self._closed = True
        self._wake()

    async def follow(self, after: int) -> AsyncIterator[Change[Server]]:
        """Yield every change after revision `after`, without a gap, until `close` is called.

        Raises RevisionCompacted if the history does not hold all of them: the oldest have been
        overwritten, or `after` lies in the future.
        """
        while True:
            self._check(after)
            appended = self._appended
            while after < self._revision:
                after += 1
                place = after % len(self._servers)
                server = self._servers[place]
                assert server is not None
                yield Change(after, server, bool(self._removed[place]))
                self._check(after)
            if self._closed:
                return
            if appended is self._appended:
                await appended.wait()

    def _wake(self) -> None:
        self._appended.set()
        self._appended = asyncio.Event()

    def _check(self, after: int) -> None:
        if self.oldest <= after <= self._revision:
            return
        raise RevisionCompacted(
            f"the changes after revision {after} are not all known: the history holds those "
            f"after {self.oldest}, up to {self._revision}. Watch again without a revision.",
            oldest=self.oldest,
            newest=self._revision,
        )
