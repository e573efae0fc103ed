"""Tells each change of a server to everybody who is to know it.

They are the records, the history, those who hold the model, and the log. None of them may
keep the others, or the command after this one, from being served.
"""

from collections.abc import Callable

import structlog

from pool_service.core.commands import Publish
from pool_service.core.server import Server
from pool_service.followers import Followers
from pool_service.history import History
from pool_service.ports import Records

log = structlog.get_logger("pool_service.pool")


class Announcer:
    """Hands each change on, in this order; what breaks is logged."""

    def __init__(self, records: Records, history: History, holders: Followers) -> None:
        self._records = records
        self._history = history
        self._holders = holders
        self.is_recording = True
        """False once the next service may be there: the records are its own then."""

    def tell(self, change: Publish) -> None:
        """Tell one change to all of them."""
        server, removed = change.server, change.removed
        self.record(server, removed=removed)
        self._attempt("history", server, lambda: self._history.append(server, removed=removed))
        if server.is_current and not change.of_holds:
            self._attempt("holders", server, lambda: self._holders.tell(server))
        if removed or change.before is not server.phase:
            self._attempt("log", server, lambda: _log_transition(change))

    def record(self, server: Server, *, removed: bool = False) -> None:
        """Put down how the server is now, or that it is gone."""
        if self.is_recording:
            put = self._records.remove if removed else self._records.put
            self._attempt("records", server, lambda: put(server))

    def _attempt(self, who: str, server: Server, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:  # the others are told all the same
            log.exception("a change could not be told", to=who, model=server.model)


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
    )
