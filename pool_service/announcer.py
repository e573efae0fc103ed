"""Distribution of each change of a server to all receivers, such as the records and the log.

A failure of one receiver must not keep the change from the others, nor stop the next command.
"""

import functools
from collections.abc import Callable, Sequence

import structlog

from pool_service.change_history import History
from pool_service.core.commands import Publish
from pool_service.core.server import Server
from pool_service.ports import World
from pool_service.subscribers import Subscribers
from pool_service.transition_record import transition

Observer = Callable[[Publish], None]
"""Receives each change after the records and the history, such as for metrics; must be quick."""

log = structlog.get_logger("pool_service.pool")


class Announcer:
    """Publishes each change to all receivers, the records first; logs a receiver's failure."""

    def __init__(
        self,
        world: World,
        history: History[Server],
        subscribers: Subscribers,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._records, self._events = world.records, world.events
        self._history = history
        self._subscribers = subscribers
        self._observers = observers
        self.is_recording = True
        """Whether changes are recorded: False once the next service may own the records."""

    def publish(self, change: Publish) -> None:
        """Publish one change to all receivers."""
        server, removed = change.server, change.removed
        self.record(server, removed=removed)
        self._attempt("history", server, lambda: self._history.append(server, removed=removed))
        if server.is_current and not change.of_holds:
            self._attempt("subscribers", server, lambda: self._subscribers.publish(server))
        if removed or change.before is not server.phase or change.before_role is not None:
            self._attempt("log", server, lambda: _log_transition(change))
            self._attempt("events", server, lambda: self._events.write(transition(change)))
        for observer in self._observers:
            self._attempt("observer", server, functools.partial(observer, change))

    def record(self, server: Server, *, removed: bool = False) -> None:
        """Record a server's present state, or its removal."""
        if self.is_recording:
            put = self._records.remove if removed else self._records.put
            self._attempt("records", server, lambda: put(server))

    def _attempt(self, receiver: str, server: Server, deliver: Callable[[], None]) -> None:
        try:
            deliver()
        except Exception:  # the other receivers still get the change
            log.exception("a change could not be published", to=receiver, model=server.model)


def _log_transition(change: Publish) -> None:
    server = change.server
    log.info(
        "transition",
        model=server.model,
        generation=server.generation,
        before=change.before.name if change.before else "-",
        after="-" if change.removed else server.phase.name,
        pid=server.identity.pid if server.identity else None,
        why=server.detail or None,
        **({"role": server.role.name} if change.before_role else {}),
    )
