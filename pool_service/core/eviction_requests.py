"""Requests that stop servers: Evict, and the end of the service.

The service ends by a shutdown, which evicts all servers, or by a detach, which leaves them running.
"""

from pool_service.core import lifecycle as life
from pool_service.core.call_error_texts import detaching, evicted, shutting_down
from pool_service.core.error_containment import Containment
from pool_service.core.events import EvictRequested, ShutdownRequested
from pool_service.core.evictions import Eviction
from pool_service.core.idle import IdleChecks
from pool_service.core.results import Every
from pool_service.core.server import Cause, Phase, Role
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row


class EvictionRequests:
    """Carry out Evict, shutdown, detach and escalation."""

    def __init__(
        self,
        state: PoolState,
        containment: Containment,
        stopper: Stopper,
        supervisor: Supervisor,
        idle: IdleChecks,
    ) -> None:
        self._state = state
        self._containment = containment
        self._stopper = stopper
        self._supervisor = supervisor
        self._idle = idle

    def evict(self, event: EvictRequested, now: float) -> None:
        """Stop the servers that a request targets; without force only unused ones."""
        if self._state.is_detaching:
            self._state.answer(event.request_id, detaching())
            return
        eviction = Eviction(
            event.request_id,
            force=event.force,
            cause=Cause.EVICTED,
            names_one=isinstance(event.target, str),
            only_idle=event.target is Every.IDLE,
        )
        self._note_home(event.target)
        targets = self._targets(event.target, now, force=event.force)
        for row in targets:
            if row.server.role is Role.SUPERSEDED:
                # Until it is gone, a superseded server keeps its model's crashes: clear them.
                self._state.put(life.forgiven(row.server))
        self._end(targets, eviction, now)

    def _note_home(self, target: str | Every) -> None:
        """Keep the home model away if it is evicted, even if it has no server at present."""
        catalogue = self._state.catalogue
        if isinstance(target, Every) or catalogue.resolve(target) == catalogue.home:
            self._state.evicted_home = catalogue.home

    def _targets(self, target: str | Every, now: float, *, force: bool) -> list[Row]:
        state = self._state
        if isinstance(target, str):
            model = state.catalogue.resolve(target)
            state.failed_starts.forget(model)
            return self._of_model(model, force=force)
        if target is Every.ALL:
            state.failed_starts.forget_all()
            return list(state.table)
        return [row for row in state.table if _is_idle(row, now)]

    def _of_model(self, model: str, *, force: bool) -> list[Row]:
        """Return the servers of a model that an eviction targets.

        Without force a held server is the only one, so that the eviction is refused and stops none.
        """
        table = self._state.table
        row = table.current(model)
        # A superseded server that is still READY ends by itself once it is unused.
        beside = [
            one for one in table.beside(model) if force or one.server.phase is not Phase.READY
        ]
        if row is None:
            return beside
        return [row] if row.server.holds and not force else [row, *beside]

    def shut_down(self, event: ShutdownRequested, now: float) -> None:
        """Refuse new requests, and drain and stop all servers."""
        state = self._state
        state.is_closing = True
        eviction = Eviction(event.request_id, force=True, cause=Cause.SHUTDOWN)
        self._end([] if state.is_detaching else list(state.table), eviction, now)
        state.record_order()

    def detach(self, now: float) -> None:
        """Leave the servers running for the next service, and answer all waiters and evictions."""
        state = self._state
        state.is_closing = state.is_detaching = True
        for eviction in state.evictions.take():
            state.answer(eviction.request_id, detaching())

        def detach_from(row: Row) -> None:
            server = row.server
            if server.role is Role.CURRENT:
                state.fail_callers(server.model, shutting_down(server.model))
            if server.phase in (Phase.QUEUED, Phase.PREPARING):
                self._supervisor.stop(row.server, Cause.SHUTDOWN, now)
            elif server.phase is Phase.BACKING_OFF:
                self._supervisor.give_up(row.server, now)

        self._containment.each(state.table, detach_from, now)
        state.record_order()

    def _end(self, rows: list[Row], eviction: Eviction, now: float) -> None:
        """Stop the servers of an eviction; without force a READY one is checked first."""
        for row in rows:
            self._state.evictions.add(eviction, row.server.id)
        if not rows:
            self._state.commands.append(eviction.answer)
        elif eviction.names_one:
            for row in rows:
                self._end_one(row, eviction, now)
        else:
            self._containment.each(rows, lambda one: self._end_one(one, eviction, now), now)

    def _end_one(self, row: Row, eviction: Eviction, now: float) -> None:
        state, server = self._state, row.server
        if server.holds and not eviction.force:
            self._idle.leave_out(eviction, server, 0)
        elif server.phase is Phase.READY and not eviction.force:
            self._idle.check(row)
        else:
            if server.role is Role.CURRENT:
                error_of = shutting_down if state.is_closing else evicted
                state.fail_callers(server.model, error_of(server.model))
            self._supervisor.stop(row.server, eviction.cause, now)

    def escalate(self, now: float) -> None:
        """Escalate all stops, those under way and those that begin later."""
        self._state.is_escalated = True
        escalate = self._stopper.escalate
        self._containment.each(self._state.table, lambda row: escalate(row, now), now)


def _is_idle(row: Row, now: float) -> bool:
    """Return whether a server may be unused, as far as is known before an idle check."""
    server = row.server
    is_wanted = server.holds or server.settings.pinned
    return server.phase is Phase.READY and not is_wanted and now >= server.resides_until
