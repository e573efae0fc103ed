"""The servers' side of the pool: starting, watching and ending processes.

`Machine` adds the callers' side. Both write the same state, one event at a time.
"""

from pool_service.core import backoff
from pool_service.core import lifecycle as life
from pool_service.core.admission import admit
from pool_service.core.deadlines import Deadlines
from pool_service.core.errors import CrashLoop, PoolError
from pool_service.core.evictions import Eviction, Evictions
from pool_service.core.failures import (
    in_use,
    is_crash,
    lasting_failure,
    runtime_model_conflict,
    start_failure,
    start_timeout,
    was_killed,
)
from pool_service.core.requests import Answer, Ensured, Publish, RecoveryEnded, TimeReached
from pool_service.core.roster import Roster
from pool_service.core.types import (
    FOREVER,
    Cause,
    Diagnosis,
    ExitReport,
    Limits,
    Phase,
    Server,
    StopSignal,
)
from pool_service.core.vitality import Vitality, judged
from pool_service.core.waiting import Waiting

Command = Answer | Publish | RecoveryEnded | life.ServerCommand

DIES_UNASKED = frozenset({Cause.CRASHED, Cause.START_TIMEOUT, Cause.WEDGED})
"""Causes after which the server is shown as FAILED instead of forgotten."""

BUSY_PAUSE = 1.0
"""Seconds, at the least, until a server that was found busy is asked again: one with
no keep alive and no residency would be asked without end."""


class Supervision:
    """What happens to processes, and what is done about it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._roster = Roster()
        self._waiting = Waiting()
        self._evictions = Evictions()
        self._deadlines = Deadlines()
        self._queue: dict[str, None] = {}
        self._generations: dict[str, int] = {}
        self._checking: set[str] = set()
        self._marked: set[str] = set()
        self._lost_ports: dict[str, int] = {}
        self._vitality: dict[str, Vitality] = {}
        self._out: list[Command] = []

    # --- starting -----------------------------------------------------------------

    def _enqueue(self, model: str, now: float) -> None:
        """Queue the next generation of a model for which somebody waits."""
        first = self._waiting.first(model)
        assert first is not None
        self._queue[model] = None
        self._put(life.queued(self._roster.get(model), model, first.settings, now))

    def _admit(self) -> None:
        if not self._queue:
            return
        starting = self._roster.count(life.TAKES_A_SLOT)
        for model in admit(self._queue, starting, self._limits.max_starts):
            del self._queue[model]
            generation = self._generations[model] = self._generations.get(model, 0) + 1
            server = self._roster[model]
            self._put(life.admitted(server, generation))
            self._out.append(life.Prepare(model, generation, server.settings))

    def _prepared(self, server: Server, event: life.Prepared, _now: float) -> None:
        if server.phase is Phase.PREPARING:
            self._put(life.prepared(server, event.plan))
            self._out.append(life.Spawn(server.model, server.generation, event.plan))

    def _spawned(self, server: Server, event: life.Spawned, now: float) -> None:
        """It has a process: watch it, and wait for it, or end it if that was wished."""
        server = life.spawned(server, event.process, now)
        self._put(server)
        self._out.append(life.AwaitExit(server.model, server.generation, event.process.identity))
        if server.phase is Phase.STOPPING:
            self._signal(server, StopSignal.TERMINATE, now)
        else:
            self._await_ready(server)

    def _await_ready(self, server: Server) -> None:
        assert server.identity is not None
        assert server.plan is not None
        self._out.append(
            life.AwaitReady(
                server.model,
                server.generation,
                server.identity,
                server.plan,
                server.settings.probe_timeout,
            )
        )

    def _not_started(self, server: Server, event: life.NotStarted, now: float) -> None:
        """There is no process, so there is nothing to sweep."""
        if server.phase is Phase.STOPPING:
            self._gone(server, now)
        else:
            self._refuse(server.model, event.error)
            self._fail(server, str(event.error), event.error, now)

    def _became_ready(self, server: Server, event: life.BecameReady, now: float) -> None:
        if server.phase is not Phase.STARTING:
            return
        server = life.became_ready(server, event.endpoint, now, now + self._limits.pulse_interval)
        waits = self._waiting.take(server.model)
        for wait in waits:
            server = life.used(server, wait.keep_alive, now)
        self._put(server)
        for wait in waits:
            self._answer(wait.ticket, Ensured(server, wait.starts))

    # --- ending -------------------------------------------------------------------

    def _stop(self, server: Server, cause: Cause, now: float) -> None:
        """Bring it to its end from whatever phase it is in; harmless to repeat."""
        if server.phase in life.WITHOUT_PROCESS:
            if server.phase is Phase.PREPARING:
                self._out.append(life.CancelPrepare(server.model, server.generation))
            self._gone(server, now)
        elif server.phase not in life.LEAVING:
            server = life.stopping(server, cause)
            if server.identity is None:
                self._put(server)
            else:
                self._signal(server, StopSignal.TERMINATE, now)

    def _signal(self, server: Server, stop: StopSignal, now: float) -> None:
        assert server.identity is not None
        self._put(life.signalled(server, stop, now))
        self._out.append(life.SendSignal(server.model, server.generation, server.identity, stop))

    def _exited(self, server: Server, event: life.Exited, now: float) -> None:
        """Its process ended. Nobody waits in vain: they are told, or it is tried again."""
        identity = server.identity
        if identity is None or server.phase is Phase.SWEEPING:
            return
        starting = server.phase is Phase.STARTING
        server = life.exited(server, event.report, now)
        if is_crash(server):
            server = life.died(server, backoff.deaths(server, self._limits, now))
        self._put(server)
        goes_on = starting and (
            self._tries_another_port(server, event.report) or was_killed(event.report)
        )
        if not goes_on:
            self._lost_ports.pop(server.model, None)
            if starting:
                self._refuse(server.model, start_failure(server, event.report))
        self._out.append(life.Sweep(server.model, server.generation, identity))

    def _tries_another_port(self, server: Server, report: ExitReport) -> bool:
        """Whether the start goes on with another process, since others took its port."""
        if report.diagnosis is not Diagnosis.PORT_TAKEN:
            return False
        lost = self._lost_ports[server.model] = self._lost_ports.get(server.model, 0) + 1
        return lost < self._limits.port_attempts

    def _swept(self, server: Server, _event: life.Swept, now: float) -> None:
        if server.phase is Phase.SWEEPING:
            self._gone(server, now)

    def _gone(self, server: Server, now: float) -> None:
        """Nothing is left of its process: settle who waited for that, and what comes next."""
        evicted = bool(self._evictions.of(server.model))
        answers = self._evictions.gone(server)
        wanted = server.phase in life.LEAVING and self._waiting.first(server.model) is not None
        if server.phase in life.LEAVING and not evicted and server.stop_cause in DIES_UNASKED:
            self._died(server, now)
        elif wanted:
            self._enqueue(server.model, now)
        else:
            self._drop(server)
        self._out += answers

    def _died(self, server: Server, now: float) -> None:
        """Start it again for those who wait, at once or later; or say why it is not."""
        failure = lasting_failure(server, self._limits)
        waited_for = self._waiting.first(server.model) is not None
        if failure is not None:
            self._refuse(server.model, failure)
            self._fail(server, server.detail, failure, now)
        elif not waited_for:
            pause = backoff.delay(server, self._limits) if is_crash(server) else 0.0
            self._put_failed(server, server.detail, now, pause, None)
        elif is_crash(server):
            self._put(life.backing_off(server, now + backoff.delay(server, self._limits)))
        else:
            self._enqueue(server.model, now)

    def _fail(self, server: Server, detail: str, failure: PoolError, now: float) -> None:
        """FAILED; who asks again in the next moments is told the same without another try."""
        loops = isinstance(failure, CrashLoop)
        pause = self._limits.backoff_most if loops else self._limits.failure_memory
        self._put_failed(server, detail, now, pause, failure)

    def _put_failed(
        self, server: Server, detail: str, now: float, pause: float, failure: PoolError | None
    ) -> None:
        server = life.failed(server, detail, now, self._limits.failure_ttl)
        self._put(life.barred(server, now + pause, failure))

    def _step_broke(self, server: Server, event: life.StepBroke, now: float) -> None:
        """A bug of ours: end the start with an error, or go on as safely as can be."""
        model, generation = server.model, server.generation
        if event.command in ("Prepare", "Spawn"):
            self._not_started(server, life.NotStarted(model, generation, event.error), now)
        elif event.command == "AwaitReady" and server.phase is Phase.STARTING:
            self._refuse(model, event.error)
            self._stop(server, Cause.CRASHED, now)
        elif event.command == "CheckUse":
            self._use_reported(server, life.UseReported(model, generation, None), now)
        elif event.command == "TakePulse" and server.phase is Phase.READY:
            self._keep(life.pulse_due(server, now + self._limits.pulse_interval))
        elif event.command == "AwaitExit":
            report = ExitReport(None, None, Diagnosis.CRASHED, str(event.error))
            self._exited(server, life.Exited(model, generation, report), now)
        elif event.command == "Sweep":
            self._swept(server, life.Swept(model, generation), now)

    # --- use ----------------------------------------------------------------------

    def _check_use(self, server: Server) -> None:
        """Ask how busy it is; while that is open its keep alive does not run out."""
        if server.model in self._checking:
            return
        assert server.identity is not None
        assert server.plan is not None
        self._checking.add(server.model)
        self._deadlines.set(server.model, FOREVER)
        self._out.append(
            life.CheckUse(
                server.model,
                server.generation,
                server.identity,
                server.plan,
                server.endpoint,
                server.settings.probe_timeout,
            )
        )

    def _use_reported(self, server: Server, event: life.UseReported, now: float) -> None:
        """Evict it if that is wished or its time is over, but never while it is busy."""
        if server.phase is not Phase.READY:
            return
        self._checking.discard(server.model)
        busy = event.requests is None or event.requests > 0
        for eviction in list(self._evictions.of(server.model)):
            if busy or (eviction.only_idle and now < server.resides_until):
                self._leave_out(eviction, server, event.requests or 0)
        wished = bool(self._evictions.of(server.model))
        if wished or (not busy and now >= server.expires_at):
            self._leave_or_look_again(server, Cause.EVICTED if wished else Cause.IDLE, now)
        else:
            self._stay(server, now, busy=busy)

    def _leave_or_look_again(self, server: Server, cause: Cause, now: float) -> None:
        """It is marked, and stopped if it is unused still: from the mark on nobody gets it.

        So a request that was on its way at the first look is seen by the second.
        """
        if server.model in self._marked:
            self._stop(server, cause, now)
        else:
            self._marked.add(server.model)
            self._check_use(server)

    def _stay(self, server: Server, now: float, *, busy: bool) -> None:
        """It is not stopped; whoever came since it was marked gets it after all."""
        self._marked.discard(server.model)
        running = server.settings.runtime_model
        waits = self._waiting.take(server.model)
        joining = [wait for wait in waits if wait.settings.runtime_model == running]
        for wait in joining:
            server = life.used(server, wait.keep_alive, now)
        if busy and now >= server.expires_at:
            server = life.used(server, None, now)
        self._roster.put(server)
        pause = max(server.expires_at, now + BUSY_PAUSE) if busy else server.expires_at
        self._deadlines.set(server.model, min(pause, server.step_deadline))
        for wait in waits:
            asked = wait.settings.runtime_model
            conflict = runtime_model_conflict(server.model, running, asked)
            found = Ensured(server, started=False)
            self._answer(wait.ticket, found if asked == running else conflict)

    def _leave_out(self, eviction: Eviction, server: Server, requests: int) -> None:
        self._evictions.leave_out(eviction, server.model)
        if eviction.names_one:
            self._answer(eviction.ticket, in_use(server.model, requests))
        elif not eviction.pending:
            self._out.append(eviction.answer)

    # --- vitality -----------------------------------------------------------------

    def _take_pulse(self, server: Server) -> None:
        assert server.identity is not None
        assert server.plan is not None
        self._keep(life.pulse_due(server, FOREVER))
        self._out.append(
            life.TakePulse(
                server.model,
                server.generation,
                server.identity,
                server.plan,
                server.endpoint,
                server.log_path,
                server.settings.probe_timeout,
            )
        )

    def _pulse_taken(self, server: Server, event: life.PulseTaken, now: float) -> None:
        """Replace it if it is wedged: it gets SIGTERM first, like any other."""
        if server.phase is not Phase.READY:
            return
        interval = self._limits.pulse_interval
        longest_gap = 2 * interval + server.settings.probe_timeout
        before = self._vitality.get(server.model)
        vitality = judged(before, event.pulse, now, longest_gap)
        self._vitality[server.model] = vitality
        if vitality.missed >= self._limits.pulse_limit:
            self._stop(server, Cause.WEDGED, now)
        else:
            self._keep(life.pulse_due(server, now + interval))

    def _keep(self, server: Server) -> None:
        """A change that nobody watches for."""
        self._roster.put(server)
        if server.model not in self._checking:
            self._deadlines.set(server.model, life.deadline(server))

    # --- time ---------------------------------------------------------------------

    def _time_reached(self, _event: TimeReached, now: float) -> None:
        for model in self._deadlines.pop_due(now):
            server = self._roster[model]
            if life.deadline(server) > now:
                self._deadlines.set(model, life.deadline(server))
            else:
                self._overdue(server, now)

    def _overdue(self, server: Server, now: float) -> None:
        if server.phase is Phase.READY and now >= server.step_deadline:
            self._take_pulse(server)
        elif server.phase is Phase.READY:
            self._check_use(server)
        elif server.phase is Phase.STARTING:
            self._refuse(server.model, start_timeout(server))
            self._stop(server, Cause.START_TIMEOUT, now)
        elif server.phase is Phase.STOPPING:
            self._signal(server, life.next_signal(server), now)
        elif server.phase is Phase.BACKING_OFF:
            self._enqueue(server.model, now)
        elif server.phase is Phase.FAILED:
            self._drop(server)

    # --- bookkeeping --------------------------------------------------------------

    def _put(self, server: Server) -> None:
        before = self._roster.put(server)
        if server.phase is not Phase.READY:
            self._checking.discard(server.model)
            self._marked.discard(server.model)
            self._vitality.pop(server.model, None)
        if server.phase in (Phase.READY, Phase.FAILED):
            self._lost_ports.pop(server.model, None)
        self._deadlines.set(server.model, life.deadline(server))
        self._out.append(Publish(server, before.phase if before else None))

    def _drop(self, server: Server) -> None:
        self._roster.remove(server.model)
        self._queue.pop(server.model, None)
        self._lost_ports.pop(server.model, None)
        self._deadlines.set(server.model, FOREVER)
        self._out.append(Publish(server, server.phase, removed=True))

    def _refuse(self, model: str, error: PoolError) -> None:
        """Everybody who waits for the model is told the same."""
        for wait in self._waiting.take(model):
            self._answer(wait.ticket, error)

    def _answer(self, ticket: int, result: Ensured | PoolError) -> None:
        self._out.append(Answer(ticket, result))
