"""Servers that are READY: callers get them, probes tell whether they live, dead ones end."""

from pool_service.core import lifecycle as life
from pool_service.core.commands import ProbeServer
from pool_service.core.events import BecameReady, ServerProbed
from pool_service.core.failures import runtime_model_conflict
from pool_service.core.liveness import judged
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, Phase
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Record
from pool_service.core.types import FOREVER

LISTENER_LOST = "it no longer listened at its endpoint"

UNHEALTHY = "it said at several looks in a row that it was unhealthy, and had nothing to do"

PROBES_A_SECOND = 3.0
"""Looks at READY servers that answered the last one, over the whole pool: one costs a good
millisecond while nothing else runs (connection, request, event), so that all take some
thousandths of a processor. Where servers are many each is looked at less often, and one that
does not answer as often as ever."""


class ReadyServers:
    """Answer callers when a server is READY; probe it, and supersede it if it serves no longer."""

    def __init__(self, state: PoolState, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor
        self._last_turn = -FOREVER

    def became_ready(self, record: Record, event: BecameReady, now: float) -> None:
        """Let a server be READY and answer all who waited for it."""
        state, server = self._state, record.server
        if server.phase is not Phase.STARTING:
            return
        server = life.became_ready(server, event.endpoint, now, self.next_probe(now))
        waiters = state.waiters.of(server.model)
        for waiter in waiters:
            server = life.used(server, waiter.keep_alive, now)
            state.touch(server.model, now)
        state.put(server)
        state.unmeasured.add(server.id)
        running = server.settings.runtime_model
        for waiter in waiters:
            # A reload may have come between those who wait.
            others = waiter.runtime_model not in ("", running)
            conflict = runtime_model_conflict(server.model, running, waiter.runtime_model)
            state.answer(waiter.request_id, conflict if others else Ensured(server, waiter.starts))
            if waiter.runtime_model == running:
                state.note_naming(server.model, running)
        state.waiters.take(server.model)

    def next_probe(self, now: float) -> float:
        """Return when a server that is well is probed next.

        Each has a turn of its own, also where all became READY at once, as by an adoption.
        """
        interval, pace = self._state.limits.probe_interval, 1 / PROBES_A_SECOND
        queue = self._state.table.count({Phase.READY}) * pace
        self._last_turn = min(max(interval, self._last_turn + pace - now), interval + queue) + now
        return self._last_turn

    def probe(self, record: Record) -> None:
        """Look whether a server answers and moves."""
        server = record.server
        assert server.identity is not None
        assert server.plan is not None
        self._state.keep(life.probe_due(server, FOREVER))
        self._state.commands.append(
            ProbeServer(
                server.id,
                server.identity,
                server.plan,
                server.endpoint,
                server.log_path,
                server.settings.probe_timeout,
            )
        )

    def probed(self, record: Record, event: ServerProbed, now: float) -> None:
        """Supersede a server that serves no longer: it gets SIGTERM first, like any other."""
        server, limits = record.server, self._state.limits
        if server.phase is not Phase.READY:
            return
        if not event.result.listens:
            self._supervisor.supersede(server, LISTENER_LOST, now)
            return
        interval = limits.probe_interval
        longest_gap = 2 * interval + server.settings.probe_timeout
        record.liveness = liveness = judged(record.liveness, event.result, now, longest_gap)
        if liveness.missed >= limits.probe_limit:
            self._supervisor.supersede(server, Cause.WEDGED.value, now, at_once=True)
        elif liveness.sick >= limits.probe_limit:
            self._supervisor.supersede(server, UNHEALTHY, now)
        else:
            is_well = event.result.answered and event.result.healthy
            due = self.next_probe(now) if is_well else now + interval
            self._state.keep(life.probe_due(server, due))

    def listener_lost(self, record: Record, now: float) -> None:
        """Supersede a server whose endpoint may be another program's by now."""
        server = record.server
        was_ready = server.phase is Phase.STARTING and server.ready_at is not None
        if (server.phase is Phase.READY or was_ready) and not self._state.is_closing:
            self._supervisor.supersede(server, LISTENER_LOST, now)
