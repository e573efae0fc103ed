"""The servers' side of the pool: starting and ending processes.

`use.py` adds what is done about READY ones, `upkeep.py` what time brings, `recovery.py`
what an earlier service left, and `Machine` the callers' side. All write the same state
(`books.py`), one event at a time.
"""

from dataclasses import replace

from pool_service.core import backoff, beside, steps
from pool_service.core import draining as drain
from pool_service.core import lifecycle as life
from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import CrashLoop, PoolError
from pool_service.core.failures import (
    is_crash,
    lasting_failure,
    runtime_model_conflict,
    start_failure,
    was_killed,
)
from pool_service.core.limits import Limits
from pool_service.core.mending import Mending
from pool_service.core.requests import Ensured, Learn
from pool_service.core.types import (
    FOREVER,
    Cause,
    Diagnosis,
    ExitReport,
    Phase,
    Server,
    StopSignal,
)

DIES_UNASKED = frozenset({Cause.CRASHED, Cause.START_TIMEOUT, Cause.WEDGED})
"""Causes after which the server is shown as FAILED instead of forgotten."""

LISTENER_LOST = "it no longer listened at its endpoint"

MOST_FAILED = 500
"""Models whose failure is shown; where more fail the oldest are forgotten before their time."""

AFTER_RUNNING_OUT = 1.25
"""So much more than ever before is expected of one that ran out of memory."""

PULSES_A_SECOND = 3.0
"""Looks at READY servers that answered the last one, over the whole pool: one costs a good
millisecond while nothing else runs (connection, request, event), so that all take some
thousandths of a processor. Where servers are many each is looked at less often, and one that
does not answer as often as ever."""


class Supervision(Mending):
    """What happens to processes, and what is done about it."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._last_turn = -FOREVER

    # --- starting -----------------------------------------------------------------

    def _enqueue(self, model: str, now: float) -> None:
        """Queue the next generation of a model for which somebody waits."""
        first = self._waiting.first(model)
        assert first is not None
        server = life.queued(self._known(model), model, first.settings, now)
        self._put(server)
        self._queue[model] = now
        self._appraise(server)

    def _appraise(self, server: Server) -> None:
        """Until it is known what it needs, its turn does not come."""
        appraise = steps.Appraise(server.model, server.generation, server.settings)
        self._unappraised.add(server.model)
        self._out.append(appraise)

    def _prepared(self, server: Server, event: steps.Prepared, _now: float) -> None:
        if server.phase is Phase.PREPARING:
            self._put(life.prepared(server, event.plan))
            self._out.append(steps.Spawn(server.named, server.generation, event.plan))

    def _spawned(self, server: Server, event: steps.Spawned, now: float) -> None:
        """It has a process: watch it, and wait for it, or end it if that was wished."""
        if server.phase is not Phase.SPAWNING and not _awaits_process(server):
            return
        server = life.spawned(server, event.process, now)
        self._put(server)
        self._out.append(steps.AwaitExit(server.named, server.generation, event.process.identity))
        if server.phase is Phase.STOPPING:
            self._signal(server, StopSignal.TERMINATE, now)
        else:
            self._await_ready(server)

    def _await_ready(self, server: Server) -> None:
        assert server.identity is not None
        assert server.plan is not None
        self._out.append(
            steps.AwaitReady(
                server.named,
                server.generation,
                server.identity,
                server.plan,
                server.settings.probe_timeout,
                again=server.ready_at is not None,
            )
        )

    def _not_started(self, server: Server, event: steps.NotStarted, now: float) -> None:
        """There is no process, so there is nothing to sweep."""
        if _awaits_process(server):
            self._gone(server, now)
        elif server.phase in (Phase.PREPARING, Phase.SPAWNING):
            self._refuse_start(server, event.error, now)

    def _became_ready(self, server: Server, event: steps.BecameReady, now: float) -> None:
        if server.phase is not Phase.STARTING:
            return
        server = life.became_ready(server, event.endpoint, now, self._next_pulse(now))
        waits = self._waiting.of(server.model)
        self._unmeasured.add(server.model)
        for wait in waits:
            server = life.used(server, wait.keep_alive, now)
            self._touch(server.model, now)
        self._put(server)
        running = server.settings.runtime_model
        for wait in waits:
            # A reload may have come between those who wait.
            others = wait.runtime_model not in ("", running)
            conflict = runtime_model_conflict(server.model, running, wait.runtime_model)
            self._answer(wait.ticket, conflict if others else Ensured(server, wait.starts))
            if wait.runtime_model == running:
                self._note_naming(server.model, running)
        self._waiting.take(server.model)

    def _next_pulse(self, now: float) -> float:
        """Each has a turn of its own, also where all became READY at once, as by an adoption."""
        interval, pace = self._limits.pulse_interval, 1 / PULSES_A_SECOND
        queue = self._roster.count({Phase.READY}) * pace
        self._last_turn = min(max(interval, self._last_turn + pace - now), interval + queue) + now
        return self._last_turn

    # --- ending -------------------------------------------------------------------

    def _replace(self, server: Server, why: str, now: float, *, at_once: bool = False) -> None:
        """End a server that serves no longer, and let its model have the next one at once.

        It goes on under a name of its own, for what is in flight on it to be finished, and its
        model has no process as after a crash: whoever wants it gets the next generation as soon
        as there is room. One that was replaced before is waited for: a model has two processes
        at most.
        """
        model = server.model
        served = [one for one in self._others(model) if one.ready_at is not None]
        if server.serves or served or self._evictions.of(model):
            # As after a crash, an eviction takes it from nobody who holds it.
            is_evicted = self._evictions.of(model) and not server.holds
            cause = Cause.EVICTED if is_evicted else Cause.WEDGED
            self._stop(server, cause, now, at_once=at_once)
            return
        aside = beside.aside(server)
        self._stand_beside(aside)
        if model in self._checking:
            self._checking.add(aside.model)
        self._stop(aside, Cause.WEDGED, now, why, at_once=at_once)
        left = beside.replaced(server, why, now)
        left = life.died(left, backoff.deaths(server, self._limits, now))
        self._put(left)
        self._want_again(left)
        self._died(left, now)

    def _listener_lost(self, server: Server, _event: steps.ListenerLost, now: float) -> None:
        """Replace a server whose endpoint may be another program's by now."""
        was_ready = server.phase is Phase.STARTING and server.ready_at is not None
        if (server.phase is Phase.READY or was_ready) and not self._closing:
            self._replace(server, LISTENER_LOST, now)

    def _stop(
        self, server: Server, cause: Cause, now: float, why: str = "", *, at_once: bool = False
    ) -> None:
        """Bring it to its end from whatever phase it is in; harmless to repeat.

        why: in words, where the cause alone says less; at_once: nothing is in flight on it, as
        was just seen, or nothing of that would ever end.
        """
        if server.phase in life.WITHOUT_PROCESS:
            if server.phase is Phase.PREPARING:
                self._out.append(steps.CancelPrepare(server.named, server.generation))
            self._gone(server, now)
        elif server.phase not in life.LEAVING:
            server = life.stopping(server, cause, why)
            if server.identity is None or server.model in self._adopting:
                self._put(server)
            elif at_once:
                self._signal(server, StopSignal.TERMINATE, now)
            else:
                self._drain(server, now)

    def _drain(self, server: Server, now: float) -> None:
        """Give its first signal to one that is STOPPING, when nothing is in flight on it."""
        if self._in_haste or not drain.drains_first(server):
            self._signal(server, server.stop_signal or StopSignal.TERMINATE, now)
        else:
            is_asked = server.model in self._checking
            self._put(drain.draining(server, now))
            if is_asked:
                # It began while the server was still handed out, so it cannot tell.
                self._early_looks.add(server.model)
            else:
                self._ask_use(server)

    def _go_on_stopping(self, server: Server, now: float) -> None:
        """Look again whether something is in flight, or send the next signal."""
        if not drain.is_draining(server) or now >= (server.drain_by or now):
            self._signal(server, life.next_signal(server), now)
        else:
            self._keep(drain.draining(server, now))
            self._ask_use(server)

    def _drain_seen(self, server: Server, activity: Activity, now: float) -> None:
        """Go on with a drain: wait while something is in flight, else send the first signal."""
        if not drain.is_draining(server):
            return
        if server.model in self._early_looks:
            self._early_looks.discard(server.model)
            self._ask_use(server)
        elif activity.requests == 0:
            self._signal(server, StopSignal.TERMINATE, now)
        elif server.detail.endswith(drain.WAITS):
            self._keep(drain.seen_busy(server, now))
        else:
            self._put(drain.seen_busy(server, now))

    def _ask_use(self, server: Server, pause: float = 0.0) -> None:
        assert server.identity is not None
        self._out.append(
            steps.CheckUse(
                server.named,
                server.generation,
                server.identity,
                server.plan,
                server.endpoint,
                server.settings.probe_timeout,
                pause,
            )
        )

    def _signal(self, server: Server, stop: StopSignal, now: float) -> None:
        assert server.identity is not None
        self._put(life.signalled(server, stop, now, in_haste=self._in_haste))
        self._out.append(steps.SendSignal(server.named, server.generation, server.identity, stop))

    def _exited(self, server: Server, event: steps.Exited, now: float) -> None:
        """Its process ended. Nobody waits in vain: they are told, or it is tried again."""
        identity = server.identity
        if identity is None or server.phase is Phase.SWEEPING:
            return
        drain_time = 0.0 if self._in_haste else drain.drain_time(server, event.report, now)
        # One that was READY under an earlier service did not die of its start.
        starting = server.phase is Phase.STARTING and server.ready_at is None
        server = life.exited(server, event.report, now)
        if is_crash(server):
            server = life.died(server, backoff.deaths(server, self._limits, now))
        self._put(server)
        self._learn(server)
        goes_on = starting and (
            self._tries_another_port(server, event.report) or was_killed(event.report)
        )
        if not goes_on:
            self._lost_ports.pop(server.model, None)
            if starting:
                self._refuse(server.model, start_failure(server, event.report))
        self._out.append(
            steps.Sweep(server.named, server.generation, identity, server.endpoint, drain_time)
        )

    def _learn(self, server: Server) -> None:
        """What it took at most is what the next one is expected to need."""
        end = server.last_exit
        ran_out = end is not None and end.report.diagnosis is Diagnosis.OUT_OF_MEMORY
        if ran_out and server.stop_signal is None:
            more = int(max(server.peak, server.expected) * AFTER_RUNNING_OUT)
            # It may be others who took it: alone in the whole budget it is tried again.
            needed = int(max(server.peak, min(more, self._limits.memory_budget)))
        elif server.sampled_ready:
            needed = server.peak
        else:
            return
        if needed:
            self._out.append(Learn(server.settings, life.bounded(server, needed)))

    def _tries_another_port(self, server: Server, report: ExitReport) -> bool:
        """Whether the start goes on with another process, since others took its port."""
        if report.diagnosis is not Diagnosis.PORT_TAKEN:
            return False
        lost = self._lost_ports[server.model] = self._lost_ports.get(server.model, 0) + 1
        return lost < self._limits.port_attempts

    def _swept(self, server: Server, event: steps.Swept, now: float) -> None:
        if server.phase is Phase.SWEEPING:
            self._gone(drain.swept(server, killed=event.killed), now)

    def _gone(self, server: Server, now: float) -> None:
        """Nothing is left of its process: settle who waited for that, and what comes next."""
        if server.phase in life.LEAVING:
            self._gone_at = now
        self._refuse_unserved(server.model)
        evicted = bool(self._evictions.of(server.model))
        answers = self._evictions.gone(server)
        try:
            if evicted:
                self._keep(life.died(server, ()))
            self._go_on(server, now, evicted=evicted)
        finally:
            self._out += answers

    def _go_on(self, server: Server, now: float, *, evicted: bool) -> None:
        """Decide what comes after a process: a restart, the next generation, or nothing."""
        wanted = server.phase in life.LEAVING and self._waiting.first(server.model) is not None
        if server.phase in life.LEAVING and not evicted and server.stop_cause in DIES_UNASKED:
            self._died(server, now)
        elif wanted:
            self._enqueue(server.model, now)
        else:
            self._drop(server)

    def _died(self, server: Server, now: float) -> None:
        """Start it again for those who wait, at once or later; or say why it is not."""
        failure = lasting_failure(server, self._limits)
        first = self._waiting.first(server.model)
        pause = backoff.delay(server, self._limits) if is_crash(server) else 0.0
        if first and first.settings.runtime_model != server.settings.runtime_model:
            self._enqueue(server.model, now)
        elif failure is not None:
            self._refuse(server.model, failure)
            self._fail(server, server.detail, failure, now)
        elif first is None:
            self._put_failed(server, server.detail, now, pause, None)
        elif pause:
            self._put(life.backing_off(server, first.settings, now + pause))
        else:
            self._enqueue(server.model, now)

    def _fail(self, server: Server, detail: str, failure: PoolError, now: float) -> None:
        """FAILED; who asks again in the next moments is told the same without another try."""
        loops = isinstance(failure, CrashLoop)
        pause = self._limits.backoff_most if loops else self._limits.failure_memory
        self._put_failed(server, detail, now, pause, failure)

    def _refuse_start(self, server: Server, error: PoolError, now: float) -> None:
        """It has had no process: whoever waits is told why, and nobody else has need to know.

        What is shown of a process that died lately stays.
        """
        self._refuse(server.model, error)
        end = server.last_exit
        lately = end is not None and now - end.at < self._limits.failure_ttl
        if server.serves or (end is not None and lately and end.cause in DIES_UNASKED):
            self._fail(server, str(error), error, now)
            return
        until = now + self._limits.failure_memory
        self._refusals.add(server.model, server.settings.runtime_model, error, until)
        self._drop(replace(server, detail=str(error)))

    def _put_failed(
        self, server: Server, detail: str, now: float, pause: float, failure: PoolError | None
    ) -> None:
        server = life.failed(server, detail, now, self._limits.failure_ttl)
        self._put(life.barred(server, now + pause, failure))
        if self._roster.count({Phase.FAILED}) > MOST_FAILED:
            self._drop(self._roster.of(Phase.FAILED)[0])

    def _give_up_unwanted(self, model: str, now: float) -> None:
        """A start that has not begun is given up with the last who wants it."""
        server = self._roster.get(model)
        if server is None or self._waiting.first(model) is not None:
            return
        if server.phase is Phase.QUEUED:
            self._drop(server)
        elif server.phase is Phase.BACKING_OFF:
            self._give_up(server, now)

    def _give_up(self, server: Server, now: float) -> None:
        """Nobody waits for its next start any more; how it died stays known."""
        self._put_failed(server, server.detail, now, max(server.retry_at - now, 0.0), None)


def _awaits_process(server: Server) -> bool:
    """Whether it is to be stopped as soon as it has a process."""
    return server.phase is Phase.STOPPING and server.identity is None
