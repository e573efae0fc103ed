"""Recycling: replaces servers that exceed their memory limit, without cutting off requests.

1. If both fit, a *successor* starts beside the server. Once READY it becomes the current server;
   the one before is *superseded*, and ends when nothing is in flight on it.
2. Otherwise the server is preempted for its own model: once unused and not held, it ends, and the
   next generation starts in its place. Callers wait meanwhile.
"""

from pool_service.core import lifecycle as life
from pool_service.core import replacement
from pool_service.core.activity import Activity
from pool_service.core.admission import Admit, Demand, verdict
from pool_service.core.events import BecameReady
from pool_service.core.idle import IdleChecks
from pool_service.core.memory_limit import is_recycling_due
from pool_service.core.readiness import ReadyServers
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Cause, Phase, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row


class Recycler:
    """Start successors, make them current when they are READY, and call them off."""

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

    def review(self, row: Row, now: float) -> None:
        """Begin to replace a sampled server that exceeds its memory limit."""
        if not is_recycling_due(row, now) or self._state.table.beside(row.server.model):
            self._state.recycle_in_place.discard(row.server.id)
            return
        successor = replacement.successor(row.server, now)
        if self._fits(successor, now):
            # If the successor fails, the server goes on: the next attempt comes after a while.
            row.recycle_after = now + self._state.limits.backoff_max
            self._state.recycle_in_place.discard(row.server.id)
            # Recorded with this server, since the row of a failed successor is dropped.
            self._state.put(replacement.succeeded_by(row.server, successor))
            self._supervisor.start(successor)
        elif row.server.id not in self._state.recycle_in_place:
            # `on_activity_reported` adds the server if it is unused.
            self._idle.check(row)

    def _fits(self, server: Server, now: float) -> bool:
        """Return whether a successor fits now, and no other server is queued."""
        state, scheduler = self._state, self._scheduler
        if state.is_closing or state.queue or scheduler.why_blocked():
            return False
        demand = Demand(server.model, server.expected, server.settings.groups, 0.0)
        return isinstance(verdict(demand, scheduler.capacity(now), now), Admit)

    def on_activity_reported(self, row: Row, activity: Activity, now: float) -> None:
        """Have a server over its memory limit preempted for its own model if it is unused.

        A busy server is handed out as before: callers do not wait for the end of others' requests.
        """
        if activity.requests != 0:
            self._state.recycle_in_place.discard(row.server.id)
        elif is_recycling_due(row, now) and not self._state.table.beside(row.server.model):
            self._state.recycle_in_place.add(row.server.id)
            self._state.capacity_changed = True

    def on_became_ready(self, row: Row, event: BecameReady, now: float) -> None:
        """Make a READY successor the current server, and supersede the one that it replaces."""
        successor, state = row.server, self._state
        if successor.phase is not Phase.STARTING:
            return
        before = state.table.current(successor.model)
        if before is None or before.server.phase is not Phase.READY:
            self._supervisor.stop(successor, Cause.MEMORY_LIMIT, now)
            return
        if state.evictions.of(before.server.id):
            self._supervisor.stop(successor, Cause.MEMORY_LIMIT, now)
            return
        replaced = before.server
        before.clear_marks_of_current()
        state.recycle_in_place.discard(replaced.id)
        state.unmeasured.discard(replaced.id)
        state.put(replacement.retired(replaced, now))
        ready = self._ready.became_ready(row, event.endpoint, now)
        current = state.put(replacement.succeeding(ready, replaced))
        state.unmeasured.add(current.server.id)
        # By the row, since `put` has given its server the holds of the model.
        self._idle.uncordon(current, now)

    def call_off(self, row: Row, now: float) -> None:
        """Stop a successor if the server that it is to replace is gone or to go.

        Its model is started again by the usual rules, if at all.
        """
        successor = row.server
        if successor.role is not Role.SUCCESSOR or successor.phase not in life.TAKES_A_SLOT:
            return
        before = self._state.table.current(successor.model)
        is_ready = before is not None and before.server.phase is Phase.READY
        if before is None or not is_ready or before.server.outdated:
            self._supervisor.stop(successor, Cause.MEMORY_LIMIT, now)
