"""Containment: an internal error in a transition costs one model, not the pool.

`internal_error_policy.py` decides how the server of the transition goes on. This part writes that,
answers waiters, and audits the state, which the transition may have left half written. Containment
uses as little of the other parts as possible, since any of them may be what raised.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.commands import (
    Adopt,
    Answer,
    CancelEstimate,
    CheckActivity,
    LogInternalError,
    ProbeServer,
    Publish,
)
from pool_service.core.errors import PoolError
from pool_service.core.events import ActivityReported, CommandFailed, ServerEvent, ServerProbed
from pool_service.core.evictions import Eviction
from pool_service.core.internal_error_policy import (
    MAX_FAULTS,
    RETRY_PAUSE_S,
    Breach,
    Salvage,
    is_own_event,
    salvaged,
)
from pool_service.core.server import NOT_BEGUN, Phase, Role, Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.table import Row
from pool_service.core.types import FOREVER


class Containment:
    """Run transitions, and put right the server of one that raises.

    event: the event that the machine handles; None: the rules after an event.
    is_damaged: a transition has raised since the last audit.
    """

    def __init__(self, state: PoolState) -> None:
        self._state = state
        self.event: object = None
        self.is_damaged = False

    def each(self, rows: Iterable[Row], do: Callable[[Row], None], now: float) -> None:
        """Call `do` with each row still in the table; an exception costs that server only."""
        for row in list(rows):
            server_id = row.server.id
            if self._state.table.find(server_id) is not row:
                continue
            try:
                do(row)
            except Exception as error:  # noqa: BLE001 - costs that server only
                self.break_off(row.server.model, server_id, error, now)

    def attempt(self, model: str, do: Callable[[str], None], now: float) -> None:
        """Call `do` with a model; an exception costs that model only."""
        try:
            do(model)
        except Exception as error:  # noqa: BLE001 - costs that model only
            row = self._state.table.current(model)
            self.break_off(model, row.server.id if row else None, error, now)

    def break_off(
        self, model: str, server_id: ServerId | None, error: Exception, now: float
    ) -> None:
        """Put right a server whose transition raised, and answer the waiters of its model.

        model: empty if the transition was about no model.
        server_id: None: the model has no server.
        """
        during = type(self.event).__name__ if self.event is not None else "the rules after an event"
        self._state.commands.append(LogInternalError(model, during, error))
        self.is_damaged = True
        try:
            self._put_right(model, server_id, internal_error(model), now)
        except Exception as again:  # noqa: BLE001 - the server at least stays known
            self._state.commands.append(LogInternalError(model, "the repair", again))
            if server_id is not None and self._state.table.find(server_id) is not None:
                self._state.deadlines.set(server_id, now + RETRY_PAUSE_S)

    def _put_right(
        self, model: str, server_id: ServerId | None, error: PoolError, now: float
    ) -> None:
        row = None if server_id is None else self._state.table.find(server_id)
        if row is None:
            self.fail_callers(model, error)
            return
        server, limits = row.server, self._state.limits
        salvage = salvaged(server, self._breach_of(row), now)
        after = salvage.server
        if after is not None and salvage.becomes_failed:
            failed = life.failed(after, str(error), now, limits.failure_ttl)
            after = life.barred(failed, now + limits.failure_memory, error)
        if salvage.fails_callers:
            if server.role is Role.CURRENT:
                self.fail_callers(
                    model, error, holds=after is None or after.phase is not Phase.READY
                )
            self._answer_evictions(server, after, error)
        self._write(row, after, salvage, now)

    def _breach_of(self, row: Row) -> Breach:
        """Return the circumstances of the exception, and count it if a check or probe raised."""
        server, event = row.server, self.event
        if isinstance(event, ServerEvent) and event.server_id != server.id:
            event = None
        if server.phase is Phase.READY and is_own_event(event):
            row.faults += 1
        is_worn = row.faults >= MAX_FAULTS
        return Breach(event, tuple(self._state.commands), row.is_adopting, is_worn)

    def _write(self, row: Row, after: Server | None, salvage: Salvage, now: float) -> None:
        if any(isinstance(command, Adopt) for command in salvage.commands):
            row.is_adopting = True
        before = row.server
        if after is None:
            self._expel(before)
        elif after.phase is Phase.READY:
            self._pause(row, after, now)
        else:
            self._replace(before, after)
        self._state.commands += salvage.commands

    def _replace(self, before: Server, after: Server) -> None:
        """Write a server in place of another; an earlier generation that is still ending stays."""
        if after.id != before.id:
            self._expel(before)
            going = self._state.table.find(after.id)
            if going is not None:
                after = life.barred(going.server, after.retry_at, after.failure)
        self._put_anyway(after)

    def _pause(self, row: Row, server: Server, now: float) -> None:
        """Keep a READY server, and put off its next check and probe."""
        issued = self._state.commands
        if isinstance(self.event, ActivityReported | CommandFailed):
            # The event may have ended a check, so one is under way only if it began just now.
            checks = [one for one in issued if isinstance(one, CheckActivity)]
            row.is_checking &= any(one.server_id == server.id for one in checks)
        row.is_cordoned = False
        if is_own_event(self.event):
            row.busy_until = now + RETRY_PAUSE_S
            probes = [one for one in issued if isinstance(one, ProbeServer)]
            is_probed = any(one.server_id == server.id for one in probes)
            ended_probe = isinstance(self.event, ServerProbed | CommandFailed)
            if not is_probed and (ended_probe or server.step_deadline <= now):
                server = life.probe_due(server, now + RETRY_PAUSE_S)
        self._put_anyway(server)

    def _put_anyway(self, server: Server) -> None:
        try:
            self._state.put(server)
        except Exception as error:  # noqa: BLE001 - `put` may be what raised before
            state = self._state
            state.commands.append(LogInternalError(server.model, "the repair", error))
            before = state.table.put(server)
            row = state.table.find(server.id)
            if row is not None:
                state.clear_marks(row)
            if server.phase is not Phase.QUEUED:
                state.queue.pop(server.id, None)
            state.deadlines.set(server.id, server.step_deadline)
            state.commands.append(Publish(server, before.phase if before else None))

    def _expel(self, server: Server) -> None:
        """Remove a server that has no process, without the parts that may have raised."""
        state = self._state
        row = state.table.find(server.id)
        if row is not None:
            state.table.remove(server.id)
            if row.is_estimating:
                state.commands.append(CancelEstimate(server.id))
        state.unmeasured.discard(server.id)
        state.recycle_in_place.discard(server.id)
        state.queue.pop(server.id, None)
        known = state.known(server.model)
        if server.role is not Role.ORPHAN and server.last_generation > (
            known.last_generation if known else 0
        ):
            # The last run keeps this generation, so that it is never given out again.
            server = replace(server, role=Role.CURRENT)
            state.remember_past(server)
        state.deadlines.set(server.id, FOREVER)
        gone = replace(server, holds=0)
        state.commands.append(Publish(gone, server.phase, removed=True))

    # --- waiters --------------------------------------------------------------------------

    def fail_callers(self, model: str, error: PoolError, *, holds: bool = True) -> None:
        """Answer all waiters of a model with an error, and with `holds` its holders as well.

        As `PoolState.fail_callers`, but nothing is published, and nobody is answered twice.
        """
        state = self._state
        for waiter in state.waiters.take(model):
            is_hold = waiter.request_id is not None and state.holds.has(waiter.request_id)
            if holds or not is_hold:
                self.tell_once(waiter.request_id, error)
        for hold in state.holds.of(model) if holds else ():
            state.holds.end(hold.request_id)
            self.tell_once(hold.request_id, error)

    def tell_once(self, request_id: int | None, result: PoolError) -> None:
        """Answer a request, unless this event has answered it already."""
        answers = [one for one in self._state.commands if isinstance(one, Answer)]
        if request_id is not None and not any(one.request_id == request_id for one in answers):
            self._state.commands.append(Answer(request_id, result))

    def _answer_evictions(self, server: Server, after: Server | None, error: PoolError) -> None:
        """Answer the evictions of a server that is gone, or that stays."""
        if after is None or after.phase in life.WITHOUT_PROCESS:
            self._state.commands += self._state.evictions.note_end(server)
        elif after.phase is Phase.READY:
            for eviction in list(self._state.evictions.of(server.id)):
                self.leave_unevicted(eviction, server.id, error)

    def leave_unevicted(self, eviction: Eviction, server_id: ServerId, error: PoolError) -> None:
        """Leave a server out of an eviction after an internal error; answer if it was the last."""
        evictions = self._state.evictions
        evictions.leave_out(eviction, server_id)
        if eviction.names_one:
            evictions.withdraw(eviction)
            self.tell_once(eviction.request_id, error)
        elif not eviction.pending:
            self._state.commands.append(eviction.answer)

    # --- the state as a whole -------------------------------------------------------------

    def audit(self, now: float) -> None:
        """Make the whole state consistent again after a transition may have written it in part."""
        self.is_damaged = False
        try:
            self._put_in_step(now)
        except Exception as error:  # noqa: BLE001 - the next error brings another audit
            self._state.commands.append(LogInternalError("", "the audit", error))

    def _put_in_step(self, now: float) -> None:
        state = self._state
        state.table.rebuild()
        for row in state.table:
            state.clear_marks(row)
            if row.server.phase is not Phase.QUEUED:
                state.queue.pop(row.server.id, None)
            self._audit_start(row.server, now)
            if state.table.find(row.server.id) is row:
                state.arm(row)
        for server_id in list(state.queue):
            if state.table.find(server_id) is None:
                del state.queue[server_id]
        self._audit_callers()
        state.capacity_changed = True

    def _audit_start(self, server: Server, now: float) -> None:
        """Fail a start that has no waiters or is not in the queue, so that nothing would end it."""
        state = self._state
        is_lost = server.phase is Phase.QUEUED and server.id not in state.queue
        # CLEANING_UP without a process: no event would end that.
        is_lost |= server.phase is Phase.CLEANING_UP and server.identity is None
        no_one = state.waiters.first(server.model) is None
        if is_lost or (server.phase in NOT_BEGUN and no_one):
            self.fail_callers(server.model, internal_error(server.model))
            failed = life.failed(server, server.detail, now, state.limits.failure_ttl)
            self._replace(server, failed)

    def _audit_callers(self) -> None:
        """Answer all waiters, holders and evictions whose server is not there."""
        state = self._state
        for model in {*state.waiters.models(), *state.holds.models()}:
            row = state.table.current(model)
            if row is None or row.server.phase is Phase.FAILED:
                self.fail_callers(model, internal_error(model))
        for server_id in state.evictions.servers():
            if state.table.find(server_id) is None:
                for eviction in list(state.evictions.of(server_id)):
                    self.leave_unevicted(eviction, server_id, internal_error(server_id.model))


def internal_error(model: str) -> PoolError:
    """Return the error for callers of a model after an internal error; the log has the details."""
    name = f"{model!r}" if model else "this"
    return PoolError(
        f"the service failed at {name} by a fault of its own. Its log says more; try again.",
        model=model,
    )
