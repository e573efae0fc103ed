"""Subscribers to the state of one model's server.

A subscriber has one slot, which holds the newest state only: a slow reader costs nothing more,
skips states in between and never misses the latest.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from pool_service.core.server import Server


class Subscriber:
    """The slot of one reader: the newest state that it has not read."""

    def __init__(self) -> None:
        self._newest: Server | None = None
        self._woken = asyncio.Event()

    def put(self, server: Server) -> None:
        """Set the newest state and wake the reader."""
        self._newest = server
        self._woken.set()

    def take(self) -> Server | None:
        """Return and clear the newest state; None if there is no new one since the last call."""
        server, self._newest = self._newest, None
        return server

    def wake(self, _cause: object = None) -> None:
        """Wake the reader without a new state. `_cause` lets this be a done callback."""
        self._woken.set()

    async def woken(self) -> None:
        """Wait for the next `put` or `wake`."""
        await self._woken.wait()
        self._woken.clear()


class Subscribers:
    """All subscribers, by model."""

    def __init__(self) -> None:
        self._by_model: dict[str, set[Subscriber]] = {}

    @contextmanager
    def subscribe(self, model: str) -> Iterator[Subscriber]:
        """Yield a subscriber to the model's server; the subscription ends with the context."""
        subscriber = Subscriber()
        subscribers = self._by_model.setdefault(model, set())
        subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            subscribers.discard(subscriber)
            if not subscribers and self._by_model.get(model) is subscribers:
                del self._by_model[model]

    def publish(self, server: Server) -> None:
        """Put a server's new state in the slot of every subscriber to its model."""
        for subscriber in self._by_model.get(server.model, ()):
            subscriber.put(server)
