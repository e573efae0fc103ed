"""Evictions under way: which servers each still waits for, and which have ended.

An *eviction* is a request to stop servers: an Evict of a caller, or the shutdown of the service.
What the scheduler does to start another model is *preemption* (`admission.py`).
"""

from dataclasses import dataclass, field

from pool_service.core.commands import Answer
from pool_service.core.results import Removed
from pool_service.core.server import Cause, Server, ServerId, StopSignal


@dataclass(eq=False, slots=True)
class Eviction:
    """An Evict or a shutdown, and its progress.

    names_one: the request names one model.
    only_idle: the request is for unused servers; one that is ensured meanwhile is left out.
    pending: servers that have not ended yet.
    found_busy: servers that one idle check has found busy.
    removed: servers that have ended.
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
        """The answer to the request, once nothing is pending."""
        return Answer(self.request_id, tuple(sorted(self.removed, key=lambda one: one.server.id)))


class Evictions:
    """Keep the evictions under way by the servers that they wait for."""

    def __init__(self) -> None:
        self._by_server: dict[ServerId, list[Eviction]] = {}

    def add(self, eviction: Eviction, server_id: ServerId) -> None:
        """Let an eviction wait for the end of a server."""
        eviction.pending.add(server_id)
        self._by_server.setdefault(server_id, []).append(eviction)

    def of(self, server_id: ServerId) -> list[Eviction]:
        """Return the evictions that wait for a server."""
        return self._by_server.get(server_id, [])

    def of_request(self, request_id: int) -> set[Eviction]:
        """Return the evictions of a request that are under way."""
        waiting = {eviction for evictions in self._by_server.values() for eviction in evictions}
        return {eviction for eviction in waiting if eviction.request_id == request_id}

    def servers(self) -> set[ServerId]:
        """Return the servers that an eviction waits for."""
        return set(self._by_server)

    def note_end(self, server: Server) -> list[Answer]:
        """Note the end of a server; return the answers of evictions that waited for it alone."""
        killed = server.stop_signal is StopSignal.KILL
        waiting = self._by_server.pop(server.id, [])
        for eviction in waiting:
            eviction.pending.discard(server.id)
            eviction.removed.append(Removed(server, killed))
        return [eviction.answer for eviction in waiting if not eviction.pending]

    def take(self) -> set[Eviction]:
        """Remove and return all evictions."""
        waiting = {eviction for evictions in self._by_server.values() for eviction in evictions}
        self._by_server.clear()
        return waiting

    def leave_out(self, eviction: Eviction, server_id: ServerId) -> None:
        """Let an eviction no longer wait for a server, which stays."""
        eviction.pending.discard(server_id)
        waiting = self._by_server[server_id]
        waiting.remove(eviction)
        if not waiting:
            del self._by_server[server_id]

    def withdraw(self, eviction: Eviction) -> None:
        """Remove an eviction that was answered."""
        for server_id in list(eviction.pending):
            self.leave_out(eviction, server_id)
