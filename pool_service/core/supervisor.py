"""Supervision: starts processes, handles their exits, and decides on restarts.

A process is gone only when nothing of it is left (CleanedUp). Then `conclude` answers the evictions
that waited for it, and decides what comes next: nothing, the next generation at once, the next
generation after a backoff, or FAILED.

What happens to a start that fails, by the caller's choice
1. `Scheduler.drop_start`: its waiters get the error, which is not remembered.
2. `fail_start`: the error is given to further callers for `failure_memory` seconds, too.
3. `show_failed_start`: as 2, and the server is shown as FAILED.
"""

from dataclasses import replace

from pool_service.core import draining as drain
from pool_service.core import lifecycle as life
from pool_service.core import replacement, restart_policy
from pool_service.core.callers import Callers
from pool_service.core.commands import (
    AwaitExit,
    AwaitReady,
    CancelPrepare,
    CleanUp,
    EstimateMemory,
    Prepare,
    RecordUsage,
    Spawn,
)
from pool_service.core.error_texts import start_failure
from pool_service.core.errors import PoolError
from pool_service.core.events import (
    CleanedUp,
    EnsureRequested,
    Exited,
    NotStarted,
    Prepared,
    Spawned,
)
from pool_service.core.failure_display import FailureDisplay
from pool_service.core.server import Cause, LastRun, Phase, Role, Server, ServerId, StopSignal
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.story import Choice
from pool_service.core.table import Row
from pool_service.core.types import Account, Diagnosis, ExitReport, Settings

FAILURES = frozenset({Cause.CRASHED, Cause.START_TIMEOUT, Cause.WEDGED})
"""Causes of an exit after which the server is started again, or shown as FAILED."""

NOT_RESTARTED = frozenset({Cause.EVICTED, Cause.SHUTDOWN})
"""Causes of a stop after which a server is not started again for its holders or its pin."""


class Supervisor:
    """Start and stop the processes of servers, handle their exits, and decide on restarts."""

    def __init__(
        self, state: PoolState, callers: Callers, stopper: Stopper, failed: FailureDisplay
    ) -> None:
        self._state = state
        self._callers = callers
        self._stopper = stopper
        self._failed = failed

    # --- starting -----------------------------------------------------------------

    def enqueue(
        self, model: str, known: Server | LastRun | None, now: float, why: str = ""
    ) -> ServerId:
        """Queue the next generation of a model that has a waiter, in place of the one before.

        known: the newest server or last run of the model. why: see `start_unasked`. Returns the id
        of the next generation.
        """
        state = self._state
        first = state.waiters.first(model)
        assert first is not None
        generation = state.next_generation(model, known)
        before = state.table.current(model)
        if before is not None and before.server.generation != generation:
            state.drop(before.server)
        server = life.queued(known, ServerId(model, generation), first.settings, now, why)
        row = state.put(server)
        row.lost_ports = before.lost_ports if before is not None else 0
        state.queue[server.id] = now
        self.estimate(row)
        return server.id

    def start_unasked(self, model: str, now: float, why: str) -> ServerId:
        """Queue a model that nobody has asked for; return the id of its server. why: in words."""
        known = self._state.known(model)
        wanted = EnsureRequested(None, model)
        self._state.waiters.add(model, self._callers.waiter_of_caller(model, wanted, known))
        return self.enqueue(model, known, now, why)

    def estimate(self, row: Row) -> None:
        """Estimate the memory of a QUEUED server; its turn does not come before that is known."""
        row.is_estimating = True
        server = row.server
        self._state.commands.append(EstimateMemory(server.id, server.settings))

    def start(self, server: Server, choice: Choice | None = None) -> None:
        """Begin the start of an admitted server, or of a successor.

        choice: the figures of the admission, for the story of the model.
        """
        self._state.put(life.admitted(server), choice=choice)
        self._state.commands.append(Prepare(server.id, server.settings))

    def on_prepared(self, row: Row, event: Prepared) -> None:
        """Spawn the process of a server by its launch plan."""
        server = row.server
        if server.phase is Phase.PREPARING:
            self._state.put(life.prepared(server, event.plan))
            row.is_spawned_here = True
            self._state.commands.append(Spawn(server.id, event.plan))

    def on_spawned(self, row: Row, event: Spawned, now: float) -> None:
        """Watch a new process until it is ready, or signal it if a stop was requested meanwhile."""
        server = row.server
        if server.phase is not Phase.SPAWNING and not _awaits_process(server):
            return
        planned = server.plan.nonce if server.plan is not None else ""
        server = life.spawned(server, event.process, now)
        self._state.put(server)
        if event.process.nonce not in ("", planned):
            self._state.runs.note_standby(server.id)
        self._state.commands.append(AwaitExit(server.id, event.process.identity))
        if server.phase is Phase.STOPPING:
            self._stopper.signal(server, StopSignal.TERMINATE, now)
        else:
            self.await_ready(server)

    def await_ready(self, server: Server) -> None:
        """Wait until the process of a server is ready."""
        assert server.identity is not None
        assert server.plan is not None
        self._state.commands.append(
            AwaitReady(
                server.id,
                server.identity,
                server.plan,
                server.settings.probe_timeout,
                again=server.was_ready,
            )
        )

    def on_not_started(self, row: Row, event: NotStarted, now: float) -> None:
        """End a start that has no process, so that there is nothing to clean up."""
        server = row.server
        if _awaits_process(server):
            self.conclude(server, now)
        elif server.phase in (Phase.PREPARING, Phase.SPAWNING):
            self.fail_start(server, event.error, now)

    # --- stopping -----------------------------------------------------------------

    def stop(
        self, server: Server, cause: Cause, now: float, why: str = "", *, at_once: bool = False
    ) -> None:
        """Stop a server in any phase; has no effect on one that is stopping already.

        why: in words, if the cause alone does not say enough.
        at_once: without a drain, since nothing is in flight, or what is in flight never ends.
        """
        if server.phase in life.WITHOUT_PROCESS:
            if server.phase is Phase.PREPARING:
                self._state.commands.append(CancelPrepare(server.id))
            self.conclude(server, now)
        elif server.phase not in life.LEAVING:
            was_serving = server.phase is Phase.READY and server.is_current
            server = life.stopping(server, cause, why)
            self._stopper.begin(server, now, at_once=at_once)
            if was_serving:
                self.add_holders_to_waiters(server)

    def supersede(self, server: Server, why: str, now: float, *, at_once: bool = False) -> None:
        """Stop a wedged, unhealthy or unlistening server, and let the next one start beside it.

        The next generation starts as soon as it fits. If another server of the model drains, or
        this one is being evicted, it is only stopped: a model has at most two processes.
        """
        state, model = self._state, server.model
        draining = [one for one in state.table.beside(model) if one.server.was_ready]
        if server.role is not Role.CURRENT or draining or state.evictions.of(server.id):
            # Stopped as WEDGED, not EVICTED, if held: holders get the next generation, as after a
            # crash.
            is_evicted = state.evictions.of(server.id) and not server.holds
            self.stop(server, Cause.EVICTED if is_evicted else Cause.WEDGED, now, at_once=at_once)
            return
        server = replacement.superseded(server, why, now)
        server = life.with_crashes(server, restart_policy.crash_times(server, state.limits, now))
        self.stop(server, Cause.WEDGED, now, why, at_once=at_once)
        row = state.table.find(server.id)
        assert row is not None
        self.add_holders_to_waiters(row.server)
        self._start_again(row.server, now)

    # --- the end ------------------------------------------------------------------

    def on_exited(self, row: Row, event: Exited, now: float) -> None:
        """Clean up after a process that exited, and fail the waiters of a start that is over.

        The holders of a server that was READY become waiters for the next generation, which
        `conclude` starts after the clean-up.
        """
        server, state = row.server, self._state
        identity = server.identity
        if identity is None or server.phase is Phase.CLEANING_UP:
            return
        drain_time = 0.0 if state.is_escalated else drain.drain_time(server, event.report, now)
        is_start = server.phase is Phase.STARTING and not server.was_ready
        was_serving = server.phase is Phase.READY and server.is_current
        server = life.exited(server, event.report, now)
        if restart_policy.has_crashed(server):
            crashes = restart_policy.crash_times(server, state.limits, now)
            server = life.with_crashes(server, crashes)
        state.put(server)
        if was_serving:
            self.add_holders_to_waiters(server)
        needed = restart_policy.observed_need(server, state.limits.memory_budget)
        if needed:
            state.commands.append(RecordUsage(server.settings, needed))
        is_retried = is_start and (
            self._tries_another_port(row, event.report) or restart_policy.was_killed(event.report)
        )
        if not is_retried:
            row.lost_ports = 0
            if is_start and server.is_current:
                state.fail_waiters(server.model, start_failure(server, event.report))
        state.commands.append(CleanUp(server.id, identity, server.endpoint, drain_time))

    def _tries_another_port(self, row: Row, report: ExitReport) -> bool:
        """Count a port lost to another program; return whether the start may try another port."""
        if report.diagnosis is not Diagnosis.PORT_TAKEN:
            return False
        row.lost_ports += 1
        return row.lost_ports < self._state.limits.port_attempts

    def on_cleaned_up(self, row: Row, event: CleanedUp, now: float) -> None:
        """Conclude the life of a server after everything of its process was cleaned up."""
        if row.server.phase is Phase.CLEANING_UP:
            self.conclude(drain.cleaned_up(row.server, killed=event.killed), now)

    def conclude(self, server: Server, now: float) -> None:
        """Answer the evictions of a server that is gone, and decide what comes next."""
        state = self._state
        if server.phase in life.LEAVING:
            state.gone_at = now
        if server.role is Role.CURRENT:
            self._callers.fail_unserved(server.model)
        is_evicted = bool(state.evictions.of(server.id))
        if is_evicted and server.is_current and server.model == state.catalogue.home:
            state.evicted_home = server.model
        answers = state.evictions.note_end(server)
        try:
            # An eviction clears the crashes before it. The server table still has them until
            # `_go_on` drops or replaces the server.
            server = life.with_crashes(server, ()) if is_evicted else server
            self._go_on(server, now, is_evicted=is_evicted)
        finally:
            state.commands += answers

    def _go_on(self, server: Server, now: float, *, is_evicted: bool) -> None:
        """Start the next generation of a server that is gone, show it as FAILED, or drop it."""
        state, model = self._state, server.model
        was_leaving = server.phase in life.LEAVING
        if server.role is not Role.CURRENT:
            self._conclude_beside(server, now, is_evicted=is_evicted)
        elif was_leaving and not is_evicted and server.stop_cause in FAILURES:
            self._start_again(server, now)
        elif was_leaving and state.waiters.first(model) is not None:
            self.enqueue(model, server, now)
        else:
            state.drop(server)

    def _conclude_beside(self, server: Server, now: float, *, is_evicted: bool) -> None:
        """Conclude the life of a server that was not current.

        1. Its model has a current server, or had one since: the server is dropped. A current
           server shows how the last process of the model ended.
        2. Nothing newer is known of its model, so the server stands for it again, as CURRENT:
           FAILED if it was superseded as it died, and not evicted; else dropped.
        """
        state = self._state
        heir, known = state.table.current(server.model), state.known(server.model)
        if heir is not None or not isinstance(known, Server) or known.id != server.id:
            state.drop(server)
            end = server.last_exit
            if heir is not None and end is not None and end.generation == server.generation:
                state.put(replace(heir.server, last_exit=end))
            return
        was_wedged = server.role is Role.SUPERSEDED and server.stop_cause is Cause.WEDGED
        server = replace(server, role=Role.CURRENT)
        if was_wedged and not is_evicted:
            pause = max(server.retry_at - now, 0.0)
            self._failed.show(server, server.detail, now, pause, server.failure)
        else:
            state.drop(server)

    # --- again, or not ------------------------------------------------------------

    def add_holders_to_waiters(self, server: Server) -> None:
        """Add waiters for the next generation of a server that is no longer READY.

        One for each holder, and one of the pool if the model is pinned or was recycled; none for
        what the catalogue no longer allows.
        """
        state, model = self._state, server.model
        if state.is_closing or server.stop_cause in NOT_RESTARTED:
            return
        self._callers.fail_unserved(model)
        if not self._callers.serves(model):
            return
        named = server.settings.named_by_caller if self._callers.is_served(server) else ""
        for hold in state.holds.of(model):
            state.waiters.add(model, self._callers.waiter(model, hold, named))
        is_recycled = server.stop_cause is Cause.MEMORY_LIMIT
        if is_recycled or state.settings_for(model, named).pinned:
            keep_alive = server.keep_alive if is_recycled else None
            # Its memory goes on counting to whom it counted.
            account = Account(server.account, 1.0) if is_recycled and server.account else None
            ours = EnsureRequested(None, model, keep_alive=keep_alive, account=account)
            waiter = self._callers.waiter(model, ours, named)
            state.waiters.add(model, replace(waiter, for_pin=not is_recycled))

    def _start_again(self, server: Server, now: float) -> None:
        """Start the next generation for waiters, at once or after a backoff; or show why not."""
        state, model = self._state, server.model
        failure = restart_policy.lasting_failure(server, state.limits)
        first = state.waiters.first(model)
        has_crashed = restart_policy.has_crashed(server)
        pause = restart_policy.delay(server, state.limits) if has_crashed else 0.0
        if first and first.settings.runtime_model != server.settings.runtime_model:
            self.enqueue(model, server, now)
        elif failure is not None:
            state.fail_waiters(model, failure)
            self._failed.remember(server, server.detail, failure, now)
        elif first is None:
            self._failed.show(server, server.detail, now, pause, None)
        elif pause:
            self.back_off(server, first.settings, now, now + pause)
        else:
            self.enqueue(model, server, now)

    def back_off(self, server: Server, settings: Settings, now: float, until: float) -> None:
        """Start the next generation at `until`, with the settings of its waiters."""
        generation = self._state.next_generation(server.model, self._state.known(server.model))
        if server.role is Role.CURRENT:
            self._state.drop(server)
        self._state.put(life.backing_off(server, generation, settings, now, until))

    def show_failed_start(self, server: Server, error: PoolError, now: float) -> None:
        """Fail the waiters of a start, and show its server as FAILED."""
        if server.is_current:
            self._state.fail_waiters(server.model, error)
        self._failed.remember(server, str(error), error, now)

    def fail_start(self, server: Server, error: PoolError, now: float) -> None:
        """Fail the waiters of a start that had no process, remember the error, and drop the server.

        If the last process of the model failed lately, the server is shown as FAILED instead.
        """
        state = self._state
        if server.role is Role.SUCCESSOR:
            state.drop(server)
            return
        state.fail_waiters(server.model, error)
        end = server.last_exit
        lately = end is not None and now - end.at < state.limits.failure_ttl
        if end is not None and lately and end.cause in FAILURES:
            self._failed.remember(server, str(error), error, now)
            return
        until = now + state.limits.failure_memory
        state.failed_starts.add(server.model, server.settings.runtime_model, error, until)
        state.drop(replace(server, detail=str(error), failure=error))

    def give_up_unwanted(self, model: str, now: float, why: str = "") -> None:
        """Give up a start that has not begun and that nobody waits for; why: in words."""
        row = self._state.table.current(model)
        if row is None or self._state.waiters.first(model) is not None:
            return
        if row.server.phase is Phase.QUEUED:
            self._state.drop(replace(row.server, detail=why or row.server.detail))
        elif row.server.phase is Phase.BACKING_OFF:
            self.give_up(row.server, now)

    def give_up(self, server: Server, now: float) -> None:
        """Show a server as FAILED that was backing off and that nobody waits for."""
        pause = max(server.retry_at - now, 0.0)
        self._failed.show(server, server.detail, now, pause, None)


def _awaits_process(server: Server) -> bool:
    """Return whether a server is STOPPING before its process is known."""
    return server.phase is Phase.STOPPING and server.identity is None
