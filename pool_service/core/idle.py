"""Idle checks: whether READY servers are in use, and which of them to stop because they are not.

A server is stopped in three steps: 1. an idle check finds it unused; 2. it is cordoned; 3. a second
check finds it unused again. The second check sees a request that was on its way during the first.

An Ensure in between
1. takes the cordon away, and is answered with the server;
2. waits instead if the cordon is that of an Evict, or if the server is preempted. Behind a
   preemption an Ensure waits from the beginning, even before the cordon.
"""

from pool_service.core import lifecycle as life
from pool_service.core.activity import Activity, SeenUse, last_use
from pool_service.core.call_error_texts import in_use
from pool_service.core.error_texts import runtime_model_conflict
from pool_service.core.evictions import Eviction
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import FOREVER

BUSY_PAUSE_S = 1.0
"""The shortest time before a busy server is checked again. Without it, a server with neither keep
alive nor grace period would be checked continuously."""

AFTERGLOW_S = 0.1
"""The time before the second check of a busy server that is to be evicted. A runtime's request
counts and connections outlast the last byte of an answer, and a client may evict right after it."""


class IdleChecks:
    """Check the activity of READY servers, and stop those that are to go and are unused."""

    def __init__(self, state: PoolState, stopper: Stopper, supervisor: Supervisor) -> None:
        self._state = state
        self._stopper = stopper
        self._supervisor = supervisor

    def check(self, row: Row, pause: float = 0.0) -> None:
        """Begin an idle check of a server; until its result the keep alive does not run out.

        pause: seconds to wait before.
        """
        if row.is_checking:
            return
        self._stopper.check_activity(row.server, pause)
        row.is_checking = True
        self._state.deadlines.set(row.server.id, FOREVER)

    def on_activity_reported(self, row: Row, activity: Activity, now: float) -> None:
        """Stop an unused READY server that is evicted, preempted, or idle for long enough."""
        state = self._state
        row.is_checking = False
        self._note_use(row, activity, now)
        requests = activity.requests
        is_busy = requests is None or requests > 0
        checks_again = self._leave_out_of_evictions(row, requests, now, is_busy=is_busy)
        was_busy = row.busy_until is not None
        row.busy_until = now + BUSY_PAUSE_S if is_busy else None
        row.found_unused_at = row.found_unused_at if is_busy else now
        state.capacity_changed |= was_busy and not is_busy
        cause = self._cause_to_go(row, now, is_busy=is_busy)
        is_preempted = row.is_preempted
        if checks_again:
            # The cordon stays, so that callers who wait behind the eviction do not get the server.
            state.capacity_changed |= is_preempted
            self.check(row, AFTERGLOW_S)
        elif cause is not None:
            self._cordon_or_stop(row, cause, now)
        elif is_preempted:
            # The scheduler decides anew which server to preempt.
            state.capacity_changed = True
            row.is_cordoned = False
            state.arm(row)
        else:
            self.uncordon(row, now)

    def _leave_out_of_evictions(
        self, row: Row, requests: int | None, now: float, *, is_busy: bool
    ) -> bool:
        """Leave a server that is in use out of the evictions without force.

        Return whether an eviction has to wait for another check. The first check that finds the
        server busy is not enough: it may have come too soon after the last answer (see
        AFTERGLOW_S), or have begun before the eviction.
        """
        server, checks_again = row.server, False
        for eviction in list(self._state.evictions.of(server.id)):
            hold_counts = server.holds and not eviction.force
            stays = server.settings.pinned or now < server.resides_until
            resides = eviction.only_idle and stays
            if is_busy and not (hold_counts or resides or server.id in eviction.found_busy):
                eviction.found_busy.add(server.id)
                checks_again = True
            elif is_busy or hold_counts or resides:
                self.leave_out(eviction, server, requests)
        return checks_again

    def _cause_to_go(self, row: Row, now: float, *, is_busy: bool) -> Cause | None:
        """Return why a server is to be stopped, or None if it stays."""
        server = row.server
        if self._state.evictions.of(server.id):
            # Those without force have left out a server that is in use.
            return Cause.EVICTED
        if is_busy or server.holds:
            return None
        if row.is_preempted and now >= server.resides_until:
            return Cause.MEMORY_LIMIT if row.preempted_for == server.model else Cause.PREEMPTED
        if now < server.expires_at:
            return None
        if server.role is Role.SUPERSEDED:
            return Cause.MEMORY_LIMIT
        return Cause.RELOADED if server.outdated else Cause.IDLE

    def _note_use(self, row: Row, activity: Activity, now: float) -> None:
        """Count requests at a server's endpoint as uses: clients may never call Ensure again."""
        server = row.server
        at = last_use(row.seen_use, activity, server.last_used_at, now)
        if activity.mark is not None:
            row.seen_use = SeenUse(now, activity.mark)
        if at is not None and at > server.last_used_at:
            self._state.put_unpublished(life.used(server, None, at))

    def _cordon_or_stop(self, row: Row, cause: Cause, now: float) -> None:
        """Cordon an unused server and check it again, or stop it if that was the second check."""
        if row.is_cordoned:
            self._supervisor.stop(row.server, cause, now, at_once=True)
        else:
            row.is_cordoned = True
            self.check(row)

    def uncordon(self, row: Row, now: float) -> None:
        """Hand out a server again, first of all to the callers that waited behind its cordon."""
        state, server = self._state, row.server
        row.is_cordoned = False
        running = server.settings.runtime_model
        waiters = state.waiters.take(server.model) if server.role is Role.CURRENT else []
        joining = {one.request_id for one in waiters if one.runtime_model in ("", running)}
        for waiter in waiters:
            if waiter.request_id in joining:
                server = life.used(server, waiter.keep_alive, now)
                state.touch(server.model, now)
        state.put_unpublished(server)
        for waiter in waiters:
            conflict = runtime_model_conflict(server.model, running, waiter.runtime_model)
            found = Ensured(server, started=False)
            state.answer(waiter.request_id, found if waiter.request_id in joining else conflict)

    def leave_out(self, eviction: Eviction, server: Server, requests: int | None) -> None:
        """Leave a server out of an eviction since it is in use; answer if nothing is pending.

        requests: in flight; None: unknown.
        """
        state = self._state
        holders = tuple(hold.holder for hold in state.holds.of(server.model))
        error = in_use(server.model, requests, holders) if eviction.names_one else None
        state.evictions.leave_out(eviction, server.id)
        if error is not None:
            state.answer(eviction.request_id, error)
            state.evictions.withdraw(eviction)
        elif not eviction.pending:
            state.commands.append(eviction.answer)
