"""How READY servers are used, whether they are alive, and what follows from it."""

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.activity import Activity, SeenUse, last_use
from pool_service.core.evictions import Eviction
from pool_service.core.failures import in_use, runtime_model_conflict
from pool_service.core.requests import Ensured
from pool_service.core.supervision import LISTENER_LOST, Supervision
from pool_service.core.types import FOREVER, Cause, Phase, Server
from pool_service.core.vitality import judged

BUSY_PAUSE = 1.0
"""Seconds, at the least, until a server that was found busy is asked again: one with
no keep alive and no residency would be asked without end."""

AFTERGLOW = 0.1
"""Seconds until the second look at a busy server that is to be evicted. What a runtime counts,
and its connections, outlast the last byte of an answer, and whoever has read that may evict."""

UNHEALTHY = "it said at several looks in a row that it was unhealthy, and had nothing to do"


class Use(Supervision):
    """Looks at READY servers, and the ends that come of them."""

    # --- use ----------------------------------------------------------------------

    def _check_use(self, server: Server, pause: float = 0.0) -> None:
        """Ask how busy it is; while that is open its keep alive does not run out."""
        if server.model in self._checking:
            return
        self._ask_use(server, pause)
        self._checking.add(server.model)
        self._deadlines.set(server.model, FOREVER)

    def _use_reported(self, server: Server, event: steps.UseReported, now: float) -> None:
        if server.phase is Phase.STOPPING:
            self._drain_seen(server, event.activity, now)
        elif server.phase is Phase.READY:
            self._use_seen(server, event.activity, now)

    def _use_seen(self, server: Server, activity: Activity, now: float) -> None:
        """Evict it if that is wished or its time is over, but never while it is busy."""
        self._checking.discard(server.model)
        server = self._active(server, activity, now)
        requests = activity.requests
        busy = requests is None or requests > 0
        looks_again = self._refuse_evictions(server, requests, now, busy=busy)
        if busy:
            self._busy_until[server.model] = now + BUSY_PAUSE
        elif self._busy_until.pop(server.model, None) is not None:
            self._room_changed = True
        cause = self._cause_to_go(server, now, busy=busy)
        if looks_again:
            # If it is marked it stays so: who waits behind the eviction is not given what may go.
            self._room_changed |= server.model in self._claims
            self._check_use(server, AFTERGLOW)
        elif cause is not None:
            self._leave_or_look_again(server, cause, now)
        elif server.model in self._claims:
            # Whether it is still the one to go is decided anew.
            self._room_changed = True
            self._marked.discard(server.model)
            self._arm(server)
        else:
            self._stay(server, now, busy=busy)

    def _refuse_evictions(
        self, server: Server, requests: int | None, now: float, *, busy: bool
    ) -> bool:
        """Refuse this server to the evictions without force that a look speaks against.

        Return whether one of them has to wait for another look: its first does not settle that
        a server is busy, since that look may have come too soon after the last answer, or have
        begun before the eviction.
        """
        looks_again = False
        for eviction in list(self._evictions.of(server.model)):
            held = server.holds and not eviction.force
            resides = eviction.only_idle and now < server.resides_until
            if busy and not (held or resides or server.model in eviction.found_busy):
                eviction.found_busy.add(server.model)
                looks_again = True
            elif busy or held or resides:
                self._leave_out(eviction, server, requests)
        return looks_again

    def _cause_to_go(self, server: Server, now: float, *, busy: bool) -> Cause | None:
        if self._evictions.of(server.model):
            return Cause.EVICTED
        if busy or server.holds:
            return None
        if server.model in self._claims and now >= server.resides_until:
            return Cause.ROOM if self._claims[server.model] != server.model else Cause.CEILING
        if now < server.expires_at:
            return None
        if server.serves:
            return Cause.CEILING
        return Cause.RELOADED if server.outdated else Cause.IDLE

    def _active(self, server: Server, activity: Activity, now: float) -> Server:
        """A request on its endpoint keeps it like an Ensure, and may be all that it gets."""
        seen = self._seen_use.get(server.model)
        if seen is not None and seen.generation != server.generation:
            seen = None
        at = last_use(seen, activity, server.last_used_at, now)
        if activity.mark is not None:
            self._seen_use[server.model] = SeenUse(server.generation, now, activity.mark)
        if at is None or at <= server.last_used_at:
            return server
        server = life.used(server, None, at)
        self._keep(server)
        return server

    def _leave_or_look_again(self, server: Server, cause: Cause, now: float) -> None:
        """It is marked, and stopped if a second look still finds it unused.

        So a request that was on its way at the first look is seen by the second. Whoever
        ensures it in between takes the mark away, or waits if an eviction made it.
        """
        if server.model in self._marked:
            self._stop(server, cause, now, at_once=True)
        else:
            self._marked.add(server.model)
            self._check_use(server)

    def _stay(self, server: Server, now: float, *, busy: bool) -> None:
        """It is not stopped; whoever came since it was marked gets it after all."""
        self._marked.discard(server.model)
        running = server.settings.runtime_model
        waits = self._waiting.of(server.model)
        joining = {wait.ticket for wait in waits if wait.runtime_model in ("", running)}
        for wait in waits:
            if wait.ticket in joining:
                server = life.used(server, wait.keep_alive, now)
        if busy and now >= server.expires_at:
            server = life.used(server, None, now)
        self._keep(server)
        for wait in waits:
            conflict = runtime_model_conflict(server.model, running, wait.runtime_model)
            found = Ensured(server, started=False)
            self._answer(wait.ticket, found if wait.ticket in joining else conflict)
        self._waiting.take(server.model)

    def _leave_out(self, eviction: Eviction, server: Server, requests: int | None) -> None:
        holders = tuple(hold.holder for hold in self._holds.of(server.model))
        error = in_use(server.model, requests, holders) if eviction.names_one else None
        self._evictions.leave_out(eviction, server.model)
        if error is not None:
            self._answer(eviction.ticket, error)
            self._evictions.withdraw(eviction)
        elif not eviction.pending:
            self._out.append(eviction.answer)

    # --- vitality -----------------------------------------------------------------

    def _take_pulse(self, server: Server) -> None:
        assert server.identity is not None
        assert server.plan is not None
        self._keep(life.pulse_due(server, FOREVER))
        self._out.append(
            steps.TakePulse(
                server.named,
                server.generation,
                server.identity,
                server.plan,
                server.endpoint,
                server.log_path,
                server.settings.probe_timeout,
            )
        )

    def _pulse_taken(self, server: Server, event: steps.PulseTaken, now: float) -> None:
        """Replace it if it serves no longer: it gets SIGTERM first, like any other."""
        if server.phase is not Phase.READY:
            return
        if not event.pulse.listens:
            self._replace(server, LISTENER_LOST, now)
            return
        interval = self._limits.pulse_interval
        longest_gap = 2 * interval + server.settings.probe_timeout
        before = self._vitality.get(server.model)
        vitality = judged(before, event.pulse, now, longest_gap)
        self._vitality[server.model] = vitality
        if vitality.missed >= self._limits.pulse_limit:
            self._replace(server, Cause.WEDGED.value, now, at_once=True)
        elif vitality.sick >= self._limits.pulse_limit:
            self._replace(server, UNHEALTHY, now)
        else:
            well = event.pulse.answered and event.pulse.healthy
            due = self._next_pulse(now) if well else now + interval
            self._keep(life.pulse_due(server, due))
