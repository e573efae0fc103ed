"""The audit: keeps each call that changed something, or was to do so, as an event on disk.

A caller that repeats a refused call or one with nothing to do, or holds a model for each of its
requests, must not push the rest of the story out of the bounded files. Of calls that are alike only
the first is written at once; the last follows at the end of the minute, with their number.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pool_service import event_records
from pool_service.access.principal import LOCAL
from pool_service.core.units import size
from pool_service.event_records import Call, EventRecord

if TYPE_CHECKING:
    # A front has an audit, and nothing of a pool.
    from pool_service.core.results import Reloaded
    from pool_service.core.server import Server
    from pool_service.ports import Events

REPEAT_WINDOW_S = 60.0
"""The time from the first of calls that are alike until the number of the others is written."""

MAX_KINDS = 1000
"""Kinds of calls that are counted at a time; beyond it the oldest are written early."""

MAX_KINDS_OF_CALLER = 100
"""Kinds of the calls of one client, or of all unknown callers, that are kept apart at a time."""

Kind = tuple[Call, str]
"""Calls that are alike, with their outcome."""

MAX_NAMED = 10
"""Evicted servers that the text of an event names."""


@dataclass(slots=True)
class _Repeated:
    """The calls like one that was written at `first_at`, without it, and the newest of them.

    first_at: a time of the event loop. last_at: the Unix time of the newest, in seconds.
    """

    first_at: float
    count: int
    last: EventRecord
    last_at: float


class Audit:
    """Writes calls to the events; runs on the event loop only.

    now: returns the Unix time in seconds.
    """

    def __init__(self, events: "Events", now: Callable[[], float] = time.time) -> None:
        self._events = events
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._kinds: dict[Kind, _Repeated] = {}
        self._kinds_of: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def changed(self, called: Call, why: str, models: Iterable[str] = ()) -> None:
        """Keep a call that changed something.

        why: the change, in words. models: those whose servers it affected.
        """
        self._events.write(event_records.call(called, why=why, models=models))

    def unchanged(self, called: Call, why: str) -> None:
        """Keep a call that found nothing to do; those that are alike are counted."""
        self._count(called, why, event_records.call(called, why=why))

    def evicted(self, called: Call, servers: "Sequence[Server]", *, is_forced: bool) -> None:
        """Keep an eviction with the servers that it evicted; those of none are counted."""
        if not servers:
            self.unchanged(called, "nothing to evict")
            return
        names = [f"{server.model} ({server.generation})" for server in servers[:MAX_NAMED]]
        more = f" and {len(servers) - MAX_NAMED} more" if len(servers) > MAX_NAMED else ""
        force = ", by force" if is_forced else ""
        why = f"evicted {', '.join(names)}{more}{force}"
        self.changed(called, why, [server.model for server in servers])

    def pulled(self, called: Call, downloaded: int) -> None:
        """Keep a Pull that downloaded so many bytes; those of none are counted."""
        if downloaded:
            self.changed(called, f"downloaded {size(downloaded)}")
        else:
            self.unchanged(called, "all files were on disk")

    def reloaded(self, called: Call, result: "Reloaded") -> None:
        """Keep a reload; those that affected no server and are alike are counted."""
        affected = (*result.replaced, *result.updated, *result.removed)
        if affected:
            self.changed(called, result.in_words, affected)
        else:
            self.unchanged(called, result.in_words)

    def held(self, called: Call, change: str, holder: str) -> None:
        """Keep the beginning or the end of a hold; those that are alike are counted.

        change: which of the two, in words. holder: the caller's label of this hold. Callers may
        give each hold another one, so that it tells no hold from others like it.
        """
        why = f"{change} ({holder})" if holder else change
        self._count(called, change, event_records.call(called, why=why))

    def refused(self, called: Call, code: str, reason: str, why: str) -> None:
        """Keep a call that failed; those that are alike are counted."""
        self._count(called, reason or code, event_records.call(called, code, reason, why))

    def close(self) -> None:
        """Write the numbers that are due later."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for known in self._kinds.values():
            self._write_count(known)
        self._kinds.clear()
        self._kinds_of.clear()

    def _count(self, called: Call, outcome: str, record: EventRecord) -> None:
        key = replace(called, peer=_host(called.peer)), outcome
        is_own = called.principal == LOCAL.name
        kinds = self._kinds_of[called.principal]
        if not is_own and key not in self._kinds and kinds >= MAX_KINDS_OF_CALLER:
            # As one kind, whatever models and hosts are named: nobody can write without end.
            key = Call(called.method, "", "", principal=called.principal), outcome
        known = self._kinds.get(key)
        if known is not None:
            known.count, known.last, known.last_at = known.count + 1, record, self._now()
            return
        self._events.write(record)
        if len(self._kinds) >= MAX_KINDS:
            self._forget(next(iter(self._kinds)))
        self._kinds_of[called.principal] += 1
        self._kinds[key] = _Repeated(self._loop.time(), 0, record, self._now())
        if self._timer is None:
            self._timer = self._loop.call_later(REPEAT_WINDOW_S, self._write_due)

    def _write_due(self) -> None:
        """Write the numbers whose minute is over, and come again for the next."""
        self._timer, now = None, self._loop.time()
        while self._kinds:
            key, known = next(iter(self._kinds.items()))
            left = known.first_at + REPEAT_WINDOW_S - now
            if left > 0:
                self._timer = self._loop.call_later(left, self._write_due)
                return
            self._forget(key)

    def _forget(self, key: Kind) -> None:
        """Write the number of a kind, and count it no longer."""
        self._kinds_of[key[0].principal] -= 1
        self._write_count(self._kinds.pop(key))

    def _write_count(self, known: _Repeated) -> None:
        if known.count:
            self._events.write(known.last | {"repeated": known.count}, known.last_at)


def _host(peer: str) -> str:
    """Return a peer without its port, which differs with each connection.

    A program of this machine can call from each of the addresses 127.0.0.0/8.
    """
    if peer.startswith("ipv4:127."):
        return "ipv4:127.0.0.1"
    return peer if peer.startswith("unix") else peer.rpartition(":")[0] or peer
