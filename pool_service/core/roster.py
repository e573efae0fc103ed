"""The servers of the pool, ordered by model, counted by phase, their memory added up."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from pool_service.core.types import Phase, Server


class Roster:
    """At most one server a model. Looking up is O(1), a page O(its size).

    reserved, growth: bytes that all servers together take up of the budget, and may still grow
    by.
    """

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._models: list[str] = []
        self._counts: Counter[Phase] = Counter()
        self.reserved = 0
        self.growth = 0

    def get(self, model: str) -> Server | None:
        """The server of `model`, if there is one."""
        return self._servers.get(model)

    def __getitem__(self, model: str) -> Server:
        return self._servers[model]

    def put(self, server: Server) -> Server | None:
        """Add it, or replace the one of the same model, which is returned."""
        before = self._servers.get(server.model)
        if before is None:
            insort(self._models, server.model)
        else:
            self._count(before, -1)
        self._count(server, 1)
        self._servers[server.model] = server
        return before

    def remove(self, model: str) -> Server:
        """Take it out and return it."""
        server = self._servers.pop(model)
        self._count(server, -1)
        del self._models[bisect_left(self._models, model)]
        return server

    def page(self, after: str | None, size: int) -> list[Server]:
        """At most `size` servers in the order of their models, after `after`."""
        start = 0 if after is None else bisect_right(self._models, after)
        return [self._servers[model] for model in self._models[start : start + size]]

    def count(self, phases: AbstractSet[Phase]) -> int:
        """How many servers are in one of these phases."""
        return sum(self._counts[phase] for phase in phases)

    def _count(self, server: Server, sign: int) -> None:
        self._counts[server.phase] += sign
        self.reserved += sign * server.reserved
        self.growth += sign * server.growth

    def __iter__(self) -> Iterator[Server]:
        return iter(self.page(None, len(self._models)))

    def __len__(self) -> int:
        return len(self._models)
