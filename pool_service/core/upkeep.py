"""What time brings, and what becomes of a server when a step of ours broke."""

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.activity import Activity
from pool_service.core.ceiling import Ceiling
from pool_service.core.failures import pool_full, start_timeout
from pool_service.core.placing import SURVEY
from pool_service.core.requests import TimeReached
from pool_service.core.types import Cause, Diagnosis, ExitReport, Phase, Server

DELAYED_WHILE_AWAY = frozenset({Phase.QUEUED, Phase.STARTING, Phase.STOPPING, Phase.BACKING_OFF})
"""Phases whose step gets the time back in which the service did not run."""

LOG_PATIENCE = 1.0
"""Seconds for which the end of a start that took too long waits for its last lines."""


class Upkeep(Ceiling):
    """Goes on with each server when something is due for it, or went wrong with us."""

    # --- time ---------------------------------------------------------------------

    def _time_reached(self, event: TimeReached, now: float) -> None:
        if event.away:
            self._resume(event.away, now)
        due = self._deadlines.pop_due(now)

        def go_on(server: Server) -> None:
            if self._due(server) > now:
                self._deadlines.set(server.model, self._due(server))
            else:
                self._overdue(server, now)

        servers = [self._roster.get(name) for name in due]
        self._each([server for server in servers if server is not None], go_on, now)
        if SURVEY in due:
            self._take_survey(now)

    def _resume(self, away: float, now: float) -> None:
        """We were away: no server pays for the time in which it, or who uses it, had no chance."""
        self._vitality.clear()

        def resume(server: Server) -> None:
            if server.phase is Phase.READY:
                self._keep(life.spared(server, now))
            elif server.phase in DELAYED_WHILE_AWAY:
                delayed = life.delayed(server, away)
                # Whoever takes the service's place is to know for how long it drains.
                (self._keep if delayed.drain_by is None else self._put)(delayed)

        self._each(self._roster, resume, now)

    def _overdue(self, server: Server, now: float) -> None:
        if server.phase is Phase.READY and now >= server.step_deadline:
            self._take_pulse(server)
        elif server.phase is Phase.READY:
            self._check_use(server)
        elif server.phase is Phase.STARTING:
            self._time_out(server, now)
        elif server.phase is Phase.STOPPING:
            self._go_on_stopping(server, now)
        elif server.phase is Phase.QUEUED:
            self._turn_away(server, pool_full(server, self._limits))
        elif server.phase is Phase.BACKING_OFF:
            self._retry(server, now)
        elif server.phase is Phase.FAILED:
            self._drop(server)

    def _retry(self, server: Server, now: float) -> None:
        """Start a server again after its pause, unless a reload refused all who waited for it."""
        if self._waiting.first(server.model) is None:
            self._give_up(server, now)
        else:
            self._enqueue(server.model, now)

    def _time_out(self, server: Server, now: float) -> None:
        """What it wrote last says why; but a disk that does not answer holds up nobody."""
        model, generation = server.model, server.generation
        if model in self._timed_out:
            self._log_read(server, steps.LogRead(model, generation, ()), now)
            return
        self._timed_out.add(model)
        self._keep(life.out_of_time(server, now + LOG_PATIENCE))
        self._out.append(steps.ReadLog(server.named, generation, server.log_path))

    def _log_read(self, server: Server, event: steps.LogRead, now: float) -> None:
        """Its start limit is over: who waits is told, with what it wrote last."""
        if server.model in self._timed_out:
            self._refuse(server.model, start_timeout(server, event.last_lines))
            self._stop(server, Cause.START_TIMEOUT, now)

    # --- bugs of ours -----------------------------------------------------------------

    def _step_broke(self, server: Server, event: steps.StepBroke, now: float) -> None:
        """A bug of ours: end the start with an error, or go on as safely as can be."""
        model, generation = server.model, server.generation
        if event.command in ("Appraise", "Fetch"):
            self._not_appraised(server, steps.NotAppraised(model, generation, event.error), now)
        elif event.command in ("Prepare", "Spawn"):
            self._not_started(server, steps.NotStarted(model, generation, event.error), now)
        elif event.command == "AwaitReady" and server.phase is Phase.STARTING:
            self._refuse(model, event.error)
            self._stop(server, Cause.CRASHED, now)
        else:
            self._look_broke(server, event, now)

    def _look_broke(self, server: Server, event: steps.StepBroke, now: float) -> None:
        model, generation = server.model, server.generation
        if event.command == "CheckUse":
            unknown = steps.UseReported(model, generation, Activity(None))
            self._use_reported(server, unknown, now)
        elif event.command == "TakePulse" and server.phase is Phase.READY:
            self._keep(life.pulse_due(server, self._next_pulse(now)))
        elif event.command == "AwaitExit":
            if server.phase is Phase.STARTING:
                self._refuse(model, event.error)
            report = ExitReport(None, None, Diagnosis.CRASHED, str(event.error))
            self._exited(server, steps.Exited(model, generation, report), now)
        elif event.command == "Sweep":
            self._swept(server, steps.Swept(model, generation), now)
