"""Readiness: answering waiters when a server is READY, and probing it while it is."""

import math

from pool_service.core import lifecycle as life
from pool_service.core import measuring
from pool_service.core.commands import ProbeServer, RecordLoad
from pool_service.core.error_texts import runtime_model_conflict
from pool_service.core.events import BecameReady, ServerProbed
from pool_service.core.liveness import after_probe
from pool_service.core.results import Ensured
from pool_service.core.server import Cause, Phase, Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import FOREVER

LISTENER_LOST = "it no longer listened at its endpoint"
"""Shown as the detail, and in the last exit, of a server that was superseded for this."""

UNHEALTHY = "it said at several probes in a row that it was unhealthy, and had nothing to do"
"""Shown as the detail, and in the last exit, of a server that was superseded for this."""

MAX_PROBES_PER_S = 2.0
"""The rate of probes of healthy servers, over the whole pool. A probe takes about a millisecond
(connection, request, event) or two, so all together take some thousandths of a processor. With many
servers each is probed less often; servers that failed their last probe keep `probe_interval`."""

PROBES_AT_ONCE = 4
"""The number of servers that are probed together where there are many, as each wake-up of the
process finds the processor's caches cold."""


class ReadyServers:
    """Answer waiters when a server is READY; probe it, and supersede it if it is not alive."""

    def __init__(self, state: PoolState, supervisor: Supervisor) -> None:
        self._state = state
        self._supervisor = supervisor
        self._last_reserved = -FOREVER

    def on_became_ready(self, row: Row, event: BecameReady, now: float) -> None:
        """Mark a server READY and answer all waiters of its model."""
        state, server = self._state, row.server
        if server.phase is not Phase.STARTING:
            return
        server = self.became_ready(row, event.endpoint, now)
        waiters = state.waiters.of(server.model)
        for waiter in waiters:
            server = life.used(server, waiter.keep_alive, now)
            state.touch(server.model, now)
        state.put(server)
        state.unmeasured.add(server.id)
        running = server.settings.runtime_model
        for waiter in waiters:
            # Waiters from before and after a reload may want different runtime models.
            others = waiter.runtime_model not in ("", running)
            conflict = runtime_model_conflict(server.model, running, waiter.runtime_model)
            state.answer(waiter.request_id, conflict if others else Ensured(server, waiter.starts))
            if waiter.runtime_model == running:
                state.note_naming(server.model, running)
        state.waiters.take(server.model)

    def became_ready(self, row: Row, endpoint: str, now: float) -> Server:
        """Return a server READY; record how long its load took, if that is known.

        It is not known of a process that an earlier service started: it may have been ready before
        it was adopted.
        """
        server = life.became_ready(row.server, endpoint, now, self.next_probe(now))
        if row.is_spawned_here and server.spawned_at is not None:
            seconds = measuring.load_seconds(server, usual=0.0)
            self._state.commands.append(RecordLoad(server.settings, seconds))
        return server

    def next_probe(self, now: float) -> float:
        """Return the time of the next probe of a healthy server, and reserve it.

        Probes are spread even if many servers became READY at once, as after an adoption. With
        more servers than are probed within `probe_interval`, PROBES_AT_ONCE of them share a time.
        """
        interval, pace = self._state.limits.probe_interval, 1 / MAX_PROBES_PER_S
        # The time in which all READY servers are probed once at this pace.
        round_s = self._state.table.count({Phase.READY}) * pace
        spread = max(interval, self._last_reserved + pace - now)
        self._last_reserved = min(spread, interval + round_s) + now
        if round_s <= interval:
            return self._last_reserved
        turn = PROBES_AT_ONCE * pace
        return math.ceil(self._last_reserved / turn) * turn

    def probe(self, row: Row) -> None:
        """Begin a liveness probe of a READY server."""
        server = row.server
        assert server.identity is not None
        assert server.plan is not None
        self._state.put_unpublished(life.probe_due(server, FOREVER))
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

    def on_server_probed(self, row: Row, event: ServerProbed, now: float) -> None:
        """Judge a liveness probe: supersede a server that is wedged, unhealthy or unlistening."""
        server, limits = row.server, self._state.limits
        if server.phase is not Phase.READY:
            return
        if not event.result.listens:
            self._supervisor.supersede(server, LISTENER_LOST, now)
            return
        interval = limits.probe_interval
        longest_gap = 2 * interval + server.settings.probe_timeout
        row.liveness = liveness = after_probe(row.liveness, event.result, now, longest_gap)
        if liveness.missed >= limits.probe_limit:
            self._supervisor.supersede(server, Cause.WEDGED.value, now, at_once=True)
        elif liveness.sick >= limits.probe_limit:
            self._supervisor.supersede(server, UNHEALTHY, now)
        else:
            is_well = event.result.answered and event.result.healthy
            due = self.next_probe(now) if is_well else now + interval
            self._state.put_unpublished(life.probed(server, event.result.reused_tokens, due))

    def on_listener_lost(self, row: Row, now: float) -> None:
        """Supersede a server that lost its endpoint, which another program may have taken."""
        server = row.server
        is_unproven = server.phase is Phase.STARTING and server.was_ready
        if (server.phase is Phase.READY or is_unproven) and not self._state.is_closing:
            self._supervisor.supersede(server, LISTENER_LOST, now)
