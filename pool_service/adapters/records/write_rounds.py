"""Rounds of writing: changes during a round wait for the next one, which writes them together."""

import asyncio
from collections.abc import Awaitable, Callable


class WriteRounds:
    """Makes rounds as long as one is wanted, one after the other.

    write: writes all that has changed, and explains its failure itself; if its argument is true,
        it also looks for files that were removed, and tries again what has failed.
    name: of the task.
    """

    def __init__(self, write: Callable[[bool], Awaitable[None]], name: str) -> None:
        self._write = write
        self._name = name
        # Each is set when its round is on disk or has failed; next: None if no round is wanted.
        self._next: asyncio.Event | None = None
        self._current: asyncio.Event | None = None
        self._checks = False
        self._task: asyncio.Task[None] | None = None

    def want(self, *, check: bool = False) -> None:
        """Have a round begin as soon as the present one has ended; return at once."""
        self._next = self._next or asyncio.Event()
        self._checks = self._checks or check
        if self._task is None:
            self._task = asyncio.create_task(self._make_all(), name=self._name)

    async def settled(self) -> None:
        """Wait until every change so far is on disk, or its write has failed."""
        # The present round may have begun before the last change.
        waited_for = self._next or self._current
        if waited_for:
            await waited_for.wait()

    async def _make_all(self) -> None:
        try:
            while self._next:
                await self._make(self._next)
        finally:
            self._task = self._current = None

    async def _make(self, done: asyncio.Event) -> None:
        self._current, self._next = done, None
        check, self._checks = self._checks, False
        try:
            await self._write(check)
        finally:
            done.set()
