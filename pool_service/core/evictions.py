"""Evictions under way: which servers each still waits for, and what went."""

from dataclasses import dataclass, field

from pool_service.core.requests import Answer, Removed
from pool_service.core.types import Cause, Server, StopSignal


@dataclass(eq=False, slots=True)
class Eviction:
    """One request to evict.

    names_one: it asked for one model by its name; only_idle: for what is unused, which
    a server that is ensured in the meantime no longer is; found_busy: the models whose server
    a look on its behalf has found busy.
    """

    ticket: int
    force: bool
    cause: Cause
    names_one: bool = False
    only_idle: bool = False
    pending: set[str] = field(default_factory=set)
    found_busy: set[str] = field(default_factory=set)
    removed: list[Removed] = field(default_factory=list)

    @property
    def answer(self) -> Answer:
        """What its caller is told once nothing is pending."""
        return Answer(self.ticket, tuple(sorted(self.removed, key=lambda r: r.server.model)))


class Evictions:
    """The evictions by the models that they still wait for."""

    def __init__(self) -> None:
        self._by_model: dict[str, list[Eviction]] = {}

    def add(self, eviction: Eviction, model: str) -> None:
        """The eviction waits for the end of this model's server."""
        eviction.pending.add(model)
        self._by_model.setdefault(model, []).append(eviction)

    def of(self, model: str) -> list[Eviction]:
        """Those that wait for this model's server."""
        return self._by_model.get(model, [])

    def with_ticket(self, ticket: int) -> set[Eviction]:
        """Return the evictions of one request that still wait."""
        waiting = {eviction for evictions in self._by_model.values() for eviction in evictions}
        return {eviction for eviction in waiting if eviction.ticket == ticket}

    def models(self) -> set[str]:
        """The models whose servers some eviction waits for."""
        return set(self._by_model)

    def gone(self, server: Server) -> list[Answer]:
        """The server is gone; the answers of those that waited for it alone."""
        killed = server.stop_signal is StopSignal.KILL
        waiting = self._by_model.pop(server.model, [])
        for eviction in waiting:
            eviction.pending.discard(server.model)
            eviction.removed.append(Removed(server, killed))
        return [eviction.answer for eviction in waiting if not eviction.pending]

    def take(self) -> set[Eviction]:
        """All that are under way; they wait for nothing any more."""
        waiting = {eviction for evictions in self._by_model.values() for eviction in evictions}
        self._by_model.clear()
        return waiting

    def leave_out(self, eviction: Eviction, model: str) -> None:
        """This eviction waits for this model no longer: its server stays."""
        eviction.pending.discard(model)
        waiting = self._by_model[model]
        waiting.remove(eviction)
        if not waiting:
            del self._by_model[model]

    def withdraw(self, eviction: Eviction) -> None:
        """It was answered, and waits for nobody any longer."""
        for model in list(eviction.pending):
            self.leave_out(eviction, model)
