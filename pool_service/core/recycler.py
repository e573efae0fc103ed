"""Replaces servers that have grown past their memory ceiling, between requests.

Where there is room for both, a *successor* starts beside the server; when that is READY it is the
model's server, and the one before is *superseded*: it ends as soon as nothing is in flight on it.
Where there is no such room the server is claimed for itself: as soon as it is unused, and not
held, nobody is given it any more, it ends, and the next generation starts in its place; meanwhile
whoever asks for it waits.
"""

from pool_service.core import lifecycle as life
from pool_service.core import succession
from pool_service.core.activity import Activity
from pool_service.core.admission import Admit, Demand, verdict
from pool_service.core.events import BecameReady
from pool_service.core.idle import IdleChecks
from pool_service.core.memory_limit import is_over_limit
from pool_service.core.readiness import ReadyServers
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Cause, Phase, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Record


class Recycler:
    """Start successors, let them take over, and call them off."""

    def __init__(
        self,
        state: PoolState,
        supervisor: Supervisor,
        idle: IdleChecks,
        ready: ReadyServers,
        scheduler: Scheduler,
    ) -> None:
        self._state = state
        self._supervisor = supervisor
        self._idle = idle
        self._ready = ready
        self._scheduler = scheduler

    def review(self, record: Record, now: float) -> None:
        """Replace a server if the last memory sample showed it past its ceiling."""
        if not is_over_limit(record, now) or self._state.table.beside(record.server.model):
            self._state.over_limit.discard(record.server.id)
            return
        successor = succession.successor(record.server, now)
        if self._fits(successor, now):
            # Should it fail, what runs is better than nothing.
            record.recycle_after = now + self._state.limits.backoff_max
            self._state.over_limit.discard(record.server.id)
            # Its own record: that of a successor that fails is not kept.
            self._state.put(succession.succeeded_by(record.server, successor))
            self._supervisor.start(successor)
        elif record.server.id not in self._state.over_limit:
            self._idle.check(record)

    def _fits(self, server: Server, now: float) -> bool:
        """Return whether a server can start without anybody waiting, or going, for it."""
        state, scheduler = self._state, self._scheduler
        if state.is_closing or state.queue or scheduler.hindrance():
            return False
        demand = Demand(server.model, server.expected, server.settings.groups, 0.0)
        return isinstance(verdict(demand, scheduler.room(now), now), Admit)

    def checked(self, record: Record, activity: Activity, now: float) -> None:
        """Claim a server for itself if a use check finds it unused and past its ceiling.

        What is busy is handed out on: nobody is to wait for the end of others' requests.
        """
        if activity.requests != 0:
            self._state.over_limit.discard(record.server.id)
        elif is_over_limit(record, now) and not self._state.table.beside(record.server.model):
            self._state.over_limit.add(record.server.id)
            self._state.capacity_changed = True

    def became_ready(self, record: Record, event: BecameReady, now: float) -> None:
        """Let a successor take the place of the server that it replaces."""
        successor, state = record.server, self._state
        if successor.phase is not Phase.STARTING:
            return
        before = state.table.current(successor.model)
        if before is None or before.server.phase is not Phase.READY:
            self._supervisor.stop(successor, Cause.MEMORY_LIMIT, now)
            return
        if state.evictions.of(before.server.id):
            self._supervisor.stop(successor, Cause.MEMORY_LIMIT, now)
            return
        was = before.server
        before.withdraw()
        state.over_limit.discard(was.id)
        state.unmeasured.discard(was.id)
        state.put(succession.retired(was, now))
        ready = life.became_ready(successor, event.endpoint, now, self._ready.next_probe(now))
        current = state.put(succession.succeeding(ready, was))
        state.unmeasured.add(current.server.id)
        # As it was put: with those who hold it.
        self._idle.stay(current, now)

    def call_off(self, record: Record, now: float) -> None:
        """Stop a successor of a server that is gone, or to go.

        That starts again as any other, if at all.
        """
        successor = record.server
        if successor.role is not Role.SUCCESSOR or successor.phase not in life.TAKES_A_SLOT:
            return
        before = self._state.table.current(successor.model)
        is_there = before is not None and before.server.phase is Phase.READY
        if before is None or not is_there or before.server.outdated:
            self._supervisor.stop(successor, Cause.MEMORY_LIMIT, now)
