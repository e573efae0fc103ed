"""Evictions under way: which servers each still waits for, and what went."""

from dataclasses import dataclass, field

from pool_service.core.commands import Answer
from pool_service.core.results import Removed
from pool_service.core.server import Cause, Server, ServerId, StopSignal


@dataclass(eq=False, slots=True)
class Eviction:
    """One request to evict.

    names_one: it asked for one model by its name; only_idle: for what is unused, which
    a server that is ensured in the meantime no longer is; found_busy: the models whose server
    a look on its behalf has found busy.
    """

    request_id: int
    force: bool
    cause: Cause
    names_one: bool = False
    only_idle: bool = False
    pending: set[ServerId] = field(default_factory=set)
    found_busy: set[ServerId] = field(default_factory=set)
    removed: list[Removed] = field(default_factory=list)

    @property
    def answer(self) -> Answer:
        """What its caller is told once nothing is pending."""
        return Answer(self.request_id, tuple(sorted(self.removed, key=lambda one: one.server.id)))


class Evictions:
    """The evictions by the models that they still wait for."""

    def __init__(self) -> None:
        self._by_server: dict[ServerId, list[Eviction]] = {}

    def add(self, eviction: Eviction, server_id: ServerId) -> None:
        """The eviction waits for the end of this model's server."""
        eviction.pending.add(server_id)
        self._by_server.setdefault(server_id, []).append(eviction)

    def of(self, server_id: ServerId) -> list[Eviction]:
        """Those that wait for this model's server."""
        return self._by_server.get(server_id, [])

    def with_ticket(self, request_id: int) -> set[Eviction]:
        """Return the evictions of one request that still wait."""
        waiting = {eviction for evictions in self._by_server.values() for eviction in evictions}
        return {eviction for eviction in waiting if eviction.request_id == request_id}

    def servers(self) -> set[ServerId]:
        """The models whose servers some eviction waits for."""
        return set(self._by_server)

    def gone(self, server: Server) -> list[Answer]:
        """The server is gone; the answers of those that waited for it alone."""
        killed = server.stop_signal is StopSignal.KILL
        waiting = self._by_server.pop(server.id, [])
        for eviction in waiting:
            eviction.pending.discard(server.id)
            eviction.removed.append(Removed(server, killed))
        return [eviction.answer for eviction in waiting if not eviction.pending]

    def take(self) -> set[Eviction]:
        """All that are under way; they wait for nothing any more."""
        waiting = {eviction for evictions in self._by_server.values() for eviction in evictions}
        self._by_server.clear()
        return waiting

    def leave_out(self, eviction: Eviction, server_id: ServerId) -> None:
        """This eviction waits for this model no longer: its server stays."""
        eviction.pending.discard(server_id)
        waiting = self._by_server[server_id]
        waiting.remove(eviction)
        if not waiting:
            del self._by_server[server_id]

    def withdraw(self, eviction: Eviction) -> None:
        """It was answered, and waits for nobody any longer."""
        for server_id in list(eviction.pending):
            self.leave_out(eviction, server_id)
