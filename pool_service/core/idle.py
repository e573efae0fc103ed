"""Whether READY servers are used, and what goes because it is not.

A server goes in three steps: a use check that finds it unused, a cordon, a second check. So a
request that was on its way at the first check is seen by the second, and whoever ensures the
server in between takes the cordon away, or waits if an eviction made it.
"""

from pool_service.core import lifecycle as life
from pool_service.core.activity import Activity, SeenUse, last_use
from pool_service.core.evictions import Eviction
from pool_service.core.failures import in_use, runtime_model_conflict
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Record
from pool_service.core.types import FOREVER

BUSY_PAUSE_S = 1.0
"""At the least until a server that was found busy is asked again: one with no keep alive and no
residency would be asked without end."""

AFTERGLOW_S = 0.1
"""Until the second look at a busy server that is to be evicted. What a runtime counts, and its
connections, outlast the last byte of an answer, and whoever has read that may evict."""


class IdleChecks:
    """Check the use of READY servers, and end those that are to go and are unused."""

    def __init__(self, state: PoolState, stopper: Stopper, supervisor: Supervisor) -> None:
        self._state = state
        self._stopper = stopper
        self._supervisor = supervisor

    def check(self, record: Record, pause: float = 0.0) -> None:
        """Ask how busy a server is; while that is open its keep alive does not run out."""
        if record.is_checking:
            return
        self._stopper.ask_use(record.server, pause)
        record.is_checking = True
        self._state.deadlines.set(record.server.id, FOREVER)

    def checked(self, record: Record, activity: Activity, now: float) -> None:
        """Evict a READY server if that is wished or its time is over, but not while it is busy."""
        state = self._state
        record.is_checking = False
        self._note_use(record, activity, now)
        requests = activity.requests
        is_busy = requests is None or requests > 0
        looks_again = self._refuse_evictions(record, requests, now, is_busy=is_busy)
        was_busy = record.busy_until is not None
        record.busy_until = now + BUSY_PAUSE_S if is_busy else None
        state.capacity_changed |= was_busy and not is_busy
        cause = self._cause_to_go(record, now, is_busy=is_busy)
        is_preempted = record.is_preempted
        if looks_again:
            # Its cordon stays: who waits behind the eviction is not given what may go.
            state.capacity_changed |= is_preempted
            self.check(record, AFTERGLOW_S)
        elif cause is not None:
            self._cordon_or_stop(record, cause, now)
        elif is_preempted:
            # Whether it is still the one to go is decided anew.
            state.capacity_changed = True
            record.is_cordoned = False
            state.arm(record)
        else:
            self.stay(record, now)

    def _refuse_evictions(
        self, record: Record, requests: int | None, now: float, *, is_busy: bool
    ) -> bool:
        """Refuse a server to the evictions without force that a check speaks against.

        Return whether one of them has to wait for another check: its first does not settle that
        a server is busy, since it may have come too soon after the last answer, or have begun
        before the eviction.
        """
        server, looks_again = record.server, False
        for eviction in list(self._state.evictions.of(server.id)):
            is_held = server.holds and not eviction.force
            resides = eviction.only_idle and now < server.resides_until
            if is_busy and not (is_held or resides or server.id in eviction.found_busy):
                eviction.found_busy.add(server.id)
                looks_again = True
            elif is_busy or is_held or resides:
                self.leave_out(eviction, server, requests)
        return looks_again

    def _cause_to_go(self, record: Record, now: float, *, is_busy: bool) -> Cause | None:
        server = record.server
        if self._state.evictions.of(server.id):
            return Cause.EVICTED
        if is_busy or server.holds:
            return None
        if record.is_preempted and now >= server.resides_until:
            return Cause.MEMORY_LIMIT if record.preempted_for == server.model else Cause.PREEMPTED
        if now < server.expires_at:
            return None
        if server.role is Role.SUPERSEDED:
            return Cause.MEMORY_LIMIT
        return Cause.RELOADED if server.outdated else Cause.IDLE

    def _note_use(self, record: Record, activity: Activity, now: float) -> None:
        """Let a request on its endpoint keep a server like an Ensure; it may be all it gets."""
        server = record.server
        at = last_use(record.seen_use, activity, server.last_used_at, now)
        if activity.mark is not None:
            record.seen_use = SeenUse(now, activity.mark)
        if at is not None and at > server.last_used_at:
            self._state.keep(life.used(server, None, at))

    def _cordon_or_stop(self, record: Record, cause: Cause, now: float) -> None:
        """Cordon an unused server and check it again, or stop it if that was the second check."""
        if record.is_cordoned:
            self._supervisor.stop(record.server, cause, now, at_once=True)
        else:
            record.is_cordoned = True
            self.check(record)

    def stay(self, record: Record, now: float) -> None:
        """Keep a server; whoever came since it was cordoned gets it after all."""
        state, server = self._state, record.server
        record.is_cordoned = False
        running = server.settings.runtime_model
        waiters = state.waiters.take(server.model) if server.role is Role.CURRENT else []
        joining = {one.request_id for one in waiters if one.runtime_model in ("", running)}
        for waiter in waiters:
            if waiter.request_id in joining:
                server = life.used(server, waiter.keep_alive, now)
        state.keep(server)
        for waiter in waiters:
            conflict = runtime_model_conflict(server.model, running, waiter.runtime_model)
            found = Ensured(server, started=False)
            state.answer(waiter.request_id, found if waiter.request_id in joining else conflict)

    def leave_out(self, eviction: Eviction, server: Server, requests: int | None) -> None:
        """Let an eviction wait for a server no longer, since that is in use."""
        state = self._state
        holders = tuple(hold.holder for hold in state.holds.of(server.model))
        error = in_use(server.model, requests, holders) if eviction.names_one else None
        state.evictions.leave_out(eviction, server.id)
        if error is not None:
            state.answer(eviction.request_id, error)
            state.evictions.withdraw(eviction)
        elif not eviction.pending:
            state.commands.append(eviction.answer)
