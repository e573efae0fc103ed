"""A server that has grown past its memory ceiling is replaced between requests.

Where there is room for both, a *successor* starts beside it under a name of its own; when
that is READY it takes over the model's name, and what was replaced (*retired*) ends as
soon as nothing is in flight on it. Where there is no such room the server is claimed for
itself: as soon as it is unused, and not held, nobody is given it any more, it ends, and the
next generation starts in its place; meanwhile whoever asks for it waits.
"""

from dataclasses import replace

from pool_service.core import beside, steps
from pool_service.core import lifecycle as life
from pool_service.core.admission import Admit, Demand, verdict
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError
from pool_service.core.limits import Limits
from pool_service.core.placing import OVERRUN, USUAL_LOAD
from pool_service.core.requests import Surveyed
from pool_service.core.standing_by import StandingBy
from pool_service.core.types import Cause, Phase, Server

RENEWAL_SHARE = 0.1
"""The share of its time that a model may spend on loading again because of its ceiling: one
that needs more than its ceiling from the first is not loaded over and over."""


class Ceiling(StandingBy):
    """Renews what has grown too large."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._overgrown: set[str] = set()
        self._renewal_at = dict[str, float]()

    def _surveyed(self, event: Surveyed, now: float) -> None:
        super()._surveyed(event, now)

        def renew(server: Server) -> None:
            if self._is_overgrown(server, now) and not self._others(server.model):
                self._renew(server, now)
            else:
                self._overgrown.discard(server.model)

        self._each(self._seen(), renew, now)

    def _is_overgrown(self, server: Server, now: float) -> bool:
        ceiling = server.settings.memory_ceiling
        if ceiling is None or server.footprint <= ceiling:
            return False
        # What is outdated goes when it is unused; it is not to come again as it was.
        if server.phase is not Phase.READY or server.serves or server.outdated:
            return False
        assert server.ready_at is not None
        settled_at = server.ready_at + life.load_seconds(server, USUAL_LOAD) / RENEWAL_SHARE
        return now >= max(settled_at, self._renewal_at.get(server.model, settled_at))

    def _renew(self, server: Server, now: float) -> None:
        successor = beside.successor(server, server.latest + 1, now)
        if self._fits(successor, now):
            # Should it fail, what runs is better than nothing.
            self._renewal_at[server.model] = now + self._limits.backoff_most
            self._overgrown.discard(server.model)
            self._stand_beside(successor)
            # Its own record: that of a successor that fails is not kept.
            self._put(replace(server, given=successor.generation))
            self._put(successor)
            generation, settings = successor.generation, successor.settings
            self._out.append(steps.Prepare(successor.named, generation, settings))
        elif server.model not in self._overgrown:
            self._check_use(server)

    def _fits(self, server: Server, now: float) -> bool:
        """Whether it can start without anybody waiting, or going, for it."""
        if self._closing or self._queue or self._hindrance():
            return False
        demand = Demand(server.model, server.expected, server.settings.groups, 0.0)
        return isinstance(verdict(demand, self._room(now), now), Admit)

    # --- the successor --------------------------------------------------------------------

    def _became_ready(self, server: Server, event: steps.BecameReady, now: float) -> None:
        if not server.serves:
            # What outgrew its ceiling was another process.
            self._overgrown.discard(server.model)
            super()._became_ready(server, event, now)
        elif server.phase is Phase.STARTING:
            self._succeed(server, event.endpoint, now)

    def _succeed(self, successor: Server, endpoint: str, now: float) -> None:
        """From now on it is the model's server, and what was is handed out no more."""
        model = successor.serves
        before = self._roster.get(model)
        if before is None or before.phase is not Phase.READY or self._evictions.of(model):
            self._stop(successor, Cause.CEILING, now)
            return
        retired = beside.retired(before, now)
        self._stand_beside(retired)
        if model in self._checking:
            self._checking.add(retired.model)
        for looks in (self._checking, self._marked, self._overgrown):
            looks.discard(model)
        for marks in (self._claims, self._busy_until, self._vitality, self._renewal_at):
            marks.pop(model, None)
        self._put(retired)
        ready = life.became_ready(successor, endpoint, now, self._next_pulse(now))
        self._put(beside.succeeding(ready, before))
        self._drop(successor)
        self._unmeasured.add(model)
        # As it was put: with those who hold it.
        self._stay(self._roster[model], now, busy=False)

    def _call_off_successors(self, now: float) -> None:
        """What they were to replace is gone, or to go: it starts again as any other, if at all."""
        if not self._beside:
            return
        found = [self._roster.get(name) for name in self._beside.values()]
        starting = [one for one in found if one is not None and one.phase in life.TAKES_A_SLOT]

        def call_off(successor: Server) -> None:
            before = self._roster.get(successor.serves)
            if before is None or before.phase is not Phase.READY or before.outdated:
                self._stop(successor, Cause.CEILING, now)

        self._each(starting, call_off, now)

    def _died(self, server: Server, now: float) -> None:
        if server.serves:
            self._drop(server)
        else:
            super()._died(server, now)

    def _fail(self, server: Server, detail: str, failure: PoolError, now: float) -> None:
        if server.serves:
            self._drop(server)
        else:
            super()._fail(server, detail, failure, now)

    def _drop(self, server: Server) -> None:
        """How what was replaced ended is told of its model."""
        super()._drop(server)
        heir = self._roster.get(server.serves)
        end = server.last_exit
        if heir is not None and end is not None and end.generation == server.generation:
            self._put(replace(heir, last_exit=end))

    # --- without room for both ------------------------------------------------------------

    def _use_reported(self, server: Server, event: steps.UseReported, now: float) -> None:
        """What is busy is handed out on: nobody is to wait for the end of others' requests."""
        if event.activity.requests != 0:
            self._overgrown.discard(server.model)
        elif self._is_overgrown(server, now) and not self._others(server.model):
            self._overgrown.add(server.model)
            self._room_changed = True
        super()._use_reported(server, event, now)

    def _claim(self, claims: dict[str, str], now: float) -> None:
        """It makes room for itself, but not while it is held: a hold is never without one."""
        # A reload may have raised its ceiling, or taken it away.
        self._overgrown = {
            model
            for model in self._overgrown
            if (server := self._roster.get(model)) and self._is_overgrown(server, now)
        }
        for model in self._overgrown | self._overrun_too(claims, now):
            if not self._roster[model].holds and claims.get(model, OVERRUN) == OVERRUN:
                claims[model] = model
        super()._claim(claims, now)

    def _overrun_too(self, claims: dict[str, str], now: float) -> set[str]:
        """Return the models that go for the budget although their ceiling is reason enough.

        A renewed server comes again by itself, an evicted one only if somebody wants it.
        """
        those = [self._roster[model] for model, whose in claims.items() if whose == OVERRUN]
        return {
            server.model
            for server in those
            if self._is_overgrown(server, now) and not self._others(server.model)
        }
