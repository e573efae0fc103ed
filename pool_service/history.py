"""Numbered changes of the pool, for everybody who watches.

A ring of the newest changes. A watcher is a position in it, so that a slow one
costs nothing and is told when the ring has overtaken it.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pool_service.core.errors import RevisionCompacted
from pool_service.core.server import Server


@dataclass(frozen=True, slots=True)
class Change:
    """One server is now like this, or (`removed`) was like this and is gone."""

    revision: int
    server: Server
    removed: bool


class History:
    """The newest `capacity` changes. Revisions rise by one from `revision` on.

    revision: where to begin, above all that an earlier service gave
    (`adapters/records/revisions.py`).
    """

    def __init__(self, revision: int, capacity: int = 4096) -> None:
        self._first = self._revision = revision
        self._ring: list[Change | None] = [None] * capacity
        self._appended = asyncio.Event()
        self._closed = False

    @property
    def revision(self) -> int:
        """The number of the newest change."""
        return self._revision

    @property
    def oldest(self) -> int:
        """The earliest revision after which every change is still here."""
        return max(self._first, self._revision - len(self._ring))

    def append(self, server: Server, *, removed: bool) -> None:
        """Add a change and wake everybody who follows."""
        self._revision += 1
        change = Change(self._revision, server, removed)
        self._ring[self._revision % len(self._ring)] = change
        self._wake()

    def close(self) -> None:
        """End everybody who follows, once they have seen the last change."""
        self._closed = True
        self._wake()

    async def follow(self, after: int) -> AsyncIterator[Change]:
        """Every change after revision `after`, without a gap; ends with `close`.

        Raises RevisionCompacted if they are not all here (any more, or yet).
        """
        while True:
            self._check(after)
            appended = self._appended
            while after < self._revision:
                change = self._ring[(after + 1) % len(self._ring)]
                assert change is not None
                yield change
                after += 1
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
