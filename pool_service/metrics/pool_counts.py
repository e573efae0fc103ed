"""Counts of starts, exits and waits, fed by each change of a server that the pool publishes.

What counts
- a start: from its admission, when its turn has come, until its server is READY or leaves;
- an exit: when a process that this service watched has ended;
- a queue wait: from the estimate of its memory (after any download) until it leaves the queue,
  admitted or not: the longest waits are those that nobody is admitted after;
- a stop: of a server that had been READY, from the decision to stop it to the exit.
Starts, waits and stops that an earlier service began are not counted: their beginning is not known.
Orphans are no servers of this pool, and count nowhere.
"""

from collections.abc import Callable

from pool_service.core.commands import Publish
from pool_service.core.lifecycle import LEAVING
from pool_service.core.server import Cause, Phase, Role, Server, ServerId, StopSignal
from pool_service.core.types import FOREVER
from pool_service.metrics.values import Counter, Histogram, ModelLabels

STANDBY, COLD = "standby", "cold"
"""Origins of a start: a standby that had imported everything, or a new process."""

READY, FAILED, TIMEOUT, STOPPED = "ready", "failed", "timeout", "stopped"
"""Results of a start; STOPPED: by an eviction, a reload or the end of the service."""

START_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
WAIT_BOUNDS_S = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
STOP_BOUNDS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)

_RESULTS = {Cause.CRASHED: FAILED, Cause.WEDGED: FAILED, Cause.START_TIMEOUT: TIMEOUT}
"""The results of starts whose process ends before it is READY; STOPPED of other causes."""


class PoolCounts:
    """Counts by the changes of servers; `observe` receives each of them.

    now: returns the seconds of the pool's clock.
    starts: by model, origin and result; exits: by model and cause; kills: by model.
    loads: the number and the seconds of successful starts, by the label of the model.
    """

    def __init__(self, labels: ModelLabels, now: Callable[[], float]) -> None:
        self._labels = labels
        self._now = now
        self._waiting: dict[ServerId, float] = {}
        self._starting: dict[ServerId, float] = {}
        self._stopping: dict[ServerId, float] = {}
        self.starts = Counter()
        self.exits = Counter()
        self.kills = Counter()
        self.loads: dict[str, tuple[int, float]] = {}
        self.start_s = {origin: Histogram(START_BOUNDS_S) for origin in (STANDBY, COLD)}
        self.queue_wait_s = Histogram(WAIT_BOUNDS_S)
        self.stop_s = Histogram(STOP_BOUNDS_S)

    @property
    def is_idle(self) -> bool:
        """Whether no wait, start or stop is under way, so that nothing is remembered of any."""
        return not (self._waiting or self._starting or self._stopping)

    def observe(self, change: Publish) -> None:
        """Count what one change of a server means."""
        server, before = change.server, change.before
        if server.role is Role.ORPHAN:
            return
        after = None if change.removed else server.phase
        self._count_wait(server, after)
        # Most changes, as of holds or progress, are within a phase: nothing begins or ends there.
        if before is not after:
            self._count_start(server, before, after)
            self._count_exit(server, before, after)

    def _count_wait(self, server: Server, after: Phase | None) -> None:
        if after is Phase.QUEUED:
            # Its turn has a deadline from the moment on at which it waits for nothing but that.
            if server.step_deadline < FOREVER:
                self._waiting.setdefault(server.id, self._now())
            return
        began = self._waiting.pop(server.id, None)
        if began is not None:
            self.queue_wait_s.observe(self._now() - began)

    def _count_start(self, server: Server, before: Phase | None, after: Phase | None) -> None:
        if after is Phase.PREPARING:
            if before is Phase.QUEUED:
                self._starting[server.id] = self._now()
            return
        if after in (Phase.SPAWNING, Phase.STARTING):
            return
        began = self._starting.pop(server.id, None)
        if began is None:
            return
        origin = STANDBY if server.from_standby else COLD
        label = self._labels.of(server.model)
        self.starts.add(label, origin, _result(server, after))
        if after is Phase.READY:
            seconds = self._now() - began
            self.start_s[origin].observe(seconds)
            count, total = self.loads.get(label, (0, 0.0))
            self.loads[label] = count + 1, total + seconds

    def _count_exit(self, server: Server, before: Phase | None, after: Phase | None) -> None:
        if after is Phase.STOPPING:
            if server.was_ready and before is not None:
                self._stopping[server.id] = self._now()
            return
        began = self._stopping.pop(server.id, None)
        if after is not Phase.CLEANING_UP or before is None:
            return
        if began is not None:
            self.stop_s.observe(self._now() - began)
        label = self._labels.of(server.model)
        self.exits.add(label, (server.stop_cause or Cause.CRASHED).name)
        if server.stop_signal is StopSignal.KILL:
            self.kills.add(label)


def _result(server: Server, after: Phase | None) -> str:
    """Return the result of a start by what its server became; None: removed."""
    if after is Phase.READY:
        return READY
    if after in LEAVING and server.stop_cause is not None:
        return _RESULTS.get(server.stop_cause, STOPPED)
    return FAILED if after is Phase.FAILED or server.failure is not None else STOPPED
