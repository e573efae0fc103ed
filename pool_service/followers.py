"""Whoever follows one model's server: told the newest state, never one after the other.

A slow reader costs nothing but its own slot, and misses nothing that still holds.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from pool_service.core.server import Server


class Follower:
    """One reader's slot."""

    def __init__(self) -> None:
        self._newest: Server | None = None
        self._woken = asyncio.Event()

    def put(self, server: Server | None) -> None:
        """This is how the server is now; None: there is none."""
        self._newest = server
        self._woken.set()

    def take(self) -> Server | None:
        """How it is now, if that is news."""
        server, self._newest = self._newest, None
        return server

    def wake(self, _cause: object = None) -> None:
        """Something else happened that its reader waits for."""
        self._woken.set()

    async def woken(self) -> None:
        """Return when there is news."""
        await self._woken.wait()
        self._woken.clear()


class Followers:
    """The readers by the model that they follow."""

    def __init__(self) -> None:
        self._by_model: dict[str, set[Follower]] = {}

    @contextmanager
    def follow(self, model: str) -> Iterator[Follower]:
        """A slot for the model's server, until the context ends."""
        follower = Follower()
        followers = self._by_model.setdefault(model, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            followers.discard(follower)
            if not followers and self._by_model.get(model) is followers:
                del self._by_model[model]

    def tell(self, server: Server) -> None:
        """Its state has changed."""
        for follower in self._by_model.get(server.model, ()):
            follower.put(server)
