"""The servers of the pool, ordered by model, grouped by phase, their memory added up."""

from bisect import bisect_left, bisect_right, insort
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import islice

from pool_service.core.types import Phase, Server


class Roster:
    """At most one server a model. Looking up is O(1), a page O(its size).

    reserved, growth: bytes that all servers together take up of the budget, and may still grow
    by.
    """

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}
        self._models: list[str] = []
        self._by_phase: dict[Phase, dict[str, None]] = {phase: {} for phase in Phase}
        self._groups: Counter[str] = Counter()
        self._turns: OrderedDict[str, None] = OrderedDict()
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
            if before.phase is not server.phase:
                del self._by_phase[before.phase][server.model]
        self._count(server, 1)
        self._by_phase[server.phase][server.model] = None
        self._servers[server.model] = server
        if server.identity is None:
            self._turns.pop(server.model, None)
        else:
            self._turns.setdefault(server.model)
        return before

    def remove(self, model: str) -> Server:
        """Take it out and return it."""
        server = self._servers.pop(model)
        self._count(server, -1)
        del self._by_phase[server.phase][model]
        self._turns.pop(model, None)
        del self._models[bisect_left(self._models, model)]
        return server

    def page(self, after: str | None, size: int) -> list[Server]:
        """At most `size` servers in the order of their models, after `after`."""
        start = 0 if after is None else bisect_right(self._models, after)
        return [self._servers[model] for model in self._models[start : start + size]]

    def count(self, phases: AbstractSet[Phase]) -> int:
        """How many servers are in one of these phases."""
        return sum(len(self._by_phase[phase]) for phase in phases)

    def of(self, phase: Phase) -> list[Server]:
        """Those that are in this phase, the longest first."""
        return [self._servers[model] for model in self._by_phase[phase]]

    def take_turns(self, most: int) -> list[Server]:
        """Of those that have a process the ones whose turn it is, at most so many."""
        models = list(islice(self._turns, most))
        for model in models:
            self._turns.move_to_end(model)
        return [self._servers[model] for model in models]

    @property
    def groups(self) -> Mapping[str, int]:
        """How many servers that take up room count for each group; absent or 0: none."""
        return self._groups

    def count_anew(self) -> None:
        """Derive from the servers all that is kept beside them."""
        fresh = Roster()
        for server in self._servers.values():
            fresh.put(server)
        self._models, self._by_phase, self._groups = fresh._models, fresh._by_phase, fresh._groups
        self._turns, self.reserved, self.growth = fresh._turns, fresh.reserved, fresh.growth

    def _count(self, server: Server, sign: int) -> None:
        if server.takes_room:
            for group in server.settings.groups:
                self._groups[group] += sign
        self.reserved += sign * server.reserved
        self.growth += sign * server.growth

    def __iter__(self) -> Iterator[Server]:
        return iter(self.page(None, len(self._models)))

    def __len__(self) -> int:
        return len(self._models)
