"""Timers: what is due for each server, and what is made good after a suspend or stall."""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.commands import ReadLog
from pool_service.core.error_containment import Containment
from pool_service.core.error_texts import (
    bound_elsewhere,
    pool_full,
    stall_reason,
    start_stalled,
    start_timeout,
)
from pool_service.core.errors import StartTimeout
from pool_service.core.events import BoundElsewhere, LogRead, TimeReached
from pool_service.core.idle import IdleChecks
from pool_service.core.readiness import ReadyServers
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Cause, Phase
from pool_service.core.stall import after_suspension, has_stalled
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row, TimedOut

DELAYED_WHILE_AWAY = frozenset({Phase.QUEUED, Phase.STARTING, Phase.STOPPING, Phase.BACKING_OFF})
"""Phases whose deadlines are put off by the time for which the service did not run."""

LOG_TIMEOUT_S = 1.0
"""The time for which a timed-out start waits for the last lines of its log."""


class Timers:
    """Act on the deadlines of servers, and put them off after a suspend or stall."""

    def __init__(
        self,
        state: PoolState,
        containment: Containment,
        stopper: Stopper,
        supervisor: Supervisor,
        idle: IdleChecks,
        ready: ReadyServers,
        sampler: Sampler,
        scheduler: Scheduler,
    ) -> None:
        self._state = state
        self._containment = containment
        self._stopper = stopper
        self._supervisor = supervisor
        self._idle = idle
        self._ready = ready
        self._sampler = sampler
        self._scheduler = scheduler

    def on_time_reached(self, event: TimeReached, now: float) -> None:
        """Act on every deadline that has passed, and take a memory sample if due."""
        if event.away:
            self._resume(event.away, now)
        due = [self._state.table.find(one) for one in self._state.deadlines.pop_due(now)]

        def go_on(row: Row) -> None:
            at = self._state.due(row)
            # A use puts the deadline off without setting it: see `Deadlines.hasten`.
            if at > now:
                self._state.deadlines.set(row.server.id, at)
            else:
                self._act_on_deadline(row, now)

        self._containment.each([one for one in due if one is not None], go_on, now)
        self._sampler.take_if_due(now)

    def _resume(self, away: float, now: float) -> None:
        """Put off deadlines by the time for which neither servers nor clients could run."""

        def resume(row: Row) -> None:
            server = row.server
            row.liveness = None
            if row.stall_watch is not None:
                row.stall_watch = after_suspension(row.stall_watch, away)
            if server.phase is Phase.READY:
                self._state.put_unpublished(life.spared(server, now))
            elif server.phase in DELAYED_WHILE_AWAY:
                delayed = life.delayed(server, away)
                # Recorded for a service that takes over: until when it drains, or may start.
                if delayed.drain_by is not None or delayed.suspended_s > server.suspended_s:
                    self._state.put(delayed)
                else:
                    self._state.put_unpublished(delayed)

        self._containment.each(self._state.table, resume, now)

    def _act_on_deadline(self, row: Row, now: float) -> None:
        server = row.server
        match server.phase:
            case Phase.READY if now >= server.step_deadline:
                self._ready.probe(row)
            case Phase.READY:
                self._idle.check(row)
            case Phase.STARTING:
                self._time_out(row, now)
            case Phase.STOPPING:
                self._stopper.go_on(server, now)
            case Phase.QUEUED:
                self._scheduler.drop_start(server, pool_full(server, self._state.limits))
            case Phase.BACKING_OFF:
                self._retry(row, now)
            case Phase.FAILED:
                self._state.drop(server)
            case _:
                pass

    def _retry(self, row: Row, now: float) -> None:
        """Queue a server again after its backoff, unless a reload failed all its waiters."""
        model = row.server.model
        if self._state.waiters.first(model) is None:
            self._supervisor.give_up(row.server, now)
        else:
            self._supervisor.enqueue(model, row.server, now)

    def end_stalled(self, now: float) -> None:
        """End each start that has made no progress for its stall timeout, after a sample."""

        def review(row: Row) -> None:
            watch, stall_timeout = row.stall_watch, row.server.settings.stall_timeout
            if watch is None or row.is_adopting or row.timed_out is not None:
                return
            if has_stalled(watch, now, stall_timeout):
                why = stall_reason(watch, now)
                self._begin_time_out(row, why, start_stalled(row.server, why), now)

        self._containment.each(self._state.table.of(Phase.STARTING), review, now)

    def _time_out(self, row: Row, now: float) -> None:
        """Begin to end a start at its deadline, or end it if reading its log took LOG_TIMEOUT_S."""
        if row.timed_out is None:
            why = Cause.START_TIMEOUT.value
            self._begin_time_out(row, why, start_timeout(row.server), now)
        else:
            self.on_log_read(row, LogRead(row.server.id, ()), now)

    def _begin_time_out(self, row: Row, why: str, error: StartTimeout, now: float) -> None:
        row.timed_out = TimedOut(why, error)
        self._state.put_unpublished(life.out_of_time(row.server, now + LOG_TIMEOUT_S))
        self._state.commands.append(ReadLog(row.server.id, row.server.log_path))

    def on_bound_elsewhere(self, row: Row, event: BoundElsewhere, now: float) -> None:
        """End a start whose process listens where it must not, and tell its waiters."""
        server = row.server
        if server.phase is not Phase.STARTING or row.timed_out is not None:
            return
        error = bound_elsewhere(server, event.endpoint)
        if server.is_current:
            self._state.fail_waiters(server.model, error)
        why = f"it listened at {event.endpoint}, which other machines do not reach"
        self._supervisor.stop(life.timed_out(server, error), Cause.START_TIMEOUT, now, why)

    def on_log_read(self, row: Row, event: LogRead, now: float) -> None:
        """Stop a start that took too long, and answer its waiters with the end of its log."""
        server = row.server
        if row.timed_out is None:
            return
        why = row.timed_out.why
        error = replace(row.timed_out.error, last_lines=event.last_lines)
        if server.is_current:
            self._state.fail_waiters(server.model, error)
        self._supervisor.stop(life.timed_out(server, error), Cause.START_TIMEOUT, now, why)
