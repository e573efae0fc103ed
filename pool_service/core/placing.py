"""Whose turn it is to start, and who goes for it.

A model that is to start waits in a queue. Its turn comes when it is known what it needs
(`Appraise`) and there is room for it (`admission.verdict`). Where others have to go first,
they are *claimed* for it: looked at like any that is idle, stopped when they are unused,
and meanwhile whoever asks for one of them waits, so that no turn is taken away.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.admission import (
    Admit,
    Demand,
    EvictFirst,
    Refuse,
    Resident,
    Room,
    Standing,
    Wait,
    cheapest_unused,
    overrun,
    verdict,
)
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError
from pool_service.core.failures import not_on_disk, too_large
from pool_service.core.limits import Limits
from pool_service.core.replacement import Candidate, Uses
from pool_service.core.requests import Learn, Surveyed, TakeSurvey
from pool_service.core.similar import MOST_MEANT
from pool_service.core.types import FOREVER, Phase, Server, Survey
from pool_service.core.use import Use

SHORT_OF_MEMORY = "the machine, which is short of memory"
OVERRUN = ""
"""For whom a server goes that makes room for nobody in particular; no model has this name."""

SURVEY = ""
"""The name under which the next look at the memory is due; no model has it."""

FRESH = 1.0
"""Seconds for which a look at the memory is good enough to start something by."""

FAST_SURVEY = 0.5
"""Seconds between looks while something starts or waits for room."""

COST_SHARE = 0.01
"""The share of a processor that the looks may take at most while somebody waits for them."""

CALM_SHARE = 0.003
"""The same while nothing starts."""

LOOKED_AT = 32
"""Servers at which one look is, in turn, beside those whose memory is not known yet: where
there are more, looks are as much more frequent, and none of them takes long."""

CALM = 10.0
"""Seconds without pressure from outside until something is started again."""

RETURN_TIME = 2.0
"""Seconds within which the memory of a process that ended is available again: the system
frees a large one in the background."""

PROGRESS_STEP = 0.05
"""Who watches is told each time a load or download has gone so much further."""

USUAL_LOAD = 5.0
"""Seconds that a load is taken to last where that was not seen."""


class Placing(Use):
    """Appraises who wants to start, makes room, and admits."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._survey: Survey | None = None
        self._surveyed_at = -FOREVER
        self._surveying = False
        self._looked_at: tuple[Server, ...] = ()
        self._survey_began = -FOREVER
        self._pressed_until = -FOREVER
        self._is_pressed = False
        self._critical_until = -FOREVER
        self._is_critical = False

    # --- appraising ---------------------------------------------------------------------

    def _appraised(self, server: Server, event: steps.Appraised, now: float) -> None:
        if server.model not in self._unappraised:
            return
        self._unappraised.discard(server.model)
        if event.appraisal.on_disk is False:
            self._fetch(server, event.appraisal.meant)
            return
        budget, turn_by = self._limits.memory_budget, now + self._limits.queue_timeout
        server = life.appraised(server, event.appraisal, turn_by, budget)
        if server.expected > budget:
            self._turn_away(server, too_large(server, budget))
        else:
            self._put(server)

    def _fetch(self, server: Server, meant: tuple[str, ...]) -> None:
        """Download its files if anybody who waits for it allows that.

        meant: models that are on the disk, and similar.
        """
        model = server.model
        if any(wait.download for wait in self._waiting.of(model)):
            self._unappraised.add(model)
            self._put(life.fetching(server, 0, 0))
            self._out.append(steps.Fetch(model, server.generation, server.settings))
        else:
            # What is listed is no mistake of who asks for it.
            names = () if model in self._catalogue.models else (*self._similar(model), *meant)
            near = tuple(dict.fromkeys(names))[:MOST_MEANT]
            self._turn_away(server, not_on_disk(model, server.settings.runtime_model, near))

    def _fetching(self, server: Server, event: steps.Fetching, _now: float) -> None:
        if server.model in self._unappraised:
            self._show(server, life.fetching(server, event.done, event.total))

    def _fetched(self, server: Server, _event: steps.Fetched, _now: float) -> None:
        if server.model in self._unappraised:
            self._appraise(server)

    def _not_appraised(self, server: Server, event: steps.NotAppraised, now: float) -> None:
        if server.model in self._unappraised:
            self._unappraised.discard(server.model)
            self._refuse_start(server, event.error, now)

    def _turn_away(self, server: Server, error: PoolError) -> None:
        """It is not started, and nothing of it needs to be remembered."""
        self._refuse(server.model, error)
        self._drop(replace(server, detail=str(error)))

    # --- looking at the memory ------------------------------------------------------------

    def _take_survey(self, now: float) -> None:
        if not self._surveying:
            new = [self._roster[model] for model in self._unmeasured]
            those = [*self._roster.of(Phase.STARTING), *new, *self._roster.take_turns(LOOKED_AT)]
            self._looked_at = tuple({server.model: server for server in those}.values())
            self._out.append(TakeSurvey(self._looked_at))
            self._surveying, self._survey_began = True, now

    def _surveyed(self, event: Surveyed, now: float) -> None:
        self._surveying = False
        self._surveyed_at = now
        self._room_changed = True
        if event.survey is None:
            # Nobody waits for what cannot be seen.
            self._unmeasured.clear()
            return
        self._survey = event.survey
        if event.survey.pressured:
            self._pressed_until = now + CALM
        if event.survey.critical:
            self._critical_until = now + CALM
        self._is_pressed = now < self._pressed_until
        self._is_critical = now < self._critical_until
        footprints = event.survey.footprints

        def measure(server: Server) -> None:
            identity, began = server.identity, self._survey_began
            if server.ready_at is None or life.is_of_ready(server, began):
                self._unmeasured.discard(server.model)
            if identity is not None and identity in footprints:
                self._measured(server, life.measured(server, footprints[identity], began))

        self._each(self._seen(), measure, now)

    def _seen(self) -> list[Server]:
        """Those at which the last look was, as they are now."""
        found = [self._server_of(one.named, one.generation) for one in self._looked_at]
        return [server for server in found if server is not None]

    def _measured(self, server: Server, measured: Server) -> None:
        if server.phase is Phase.READY and measured.peak > max(server.peak, server.expected):
            self._out.append(Learn(server.settings, life.bounded(server, measured.peak)))
        self._show(server, measured)

    def _show(self, server: Server, changed: Server) -> None:
        """Not every byte is worth telling."""
        if changed is server:
            return
        gone_on = (changed.progress or 0.0) - (server.progress or 0.0)
        if gone_on >= PROGRESS_STEP or changed.expected_by is not server.expected_by:
            self._put(changed)
        else:
            self._keep(replace(changed, progress=server.progress))

    def _plan_survey(self) -> None:
        """When the next look is due: often while it matters, and never at much cost."""
        if self._surveying:
            self._deadlines.set(SURVEY, FOREVER)
            return
        living = len(self._roster) - self._roster.count(life.WITHOUT_PROCESS)
        lined_up = len(self._queue) > len(self._unappraised)
        if lined_up or self._unmeasured or self._roster.count({Phase.STARTING}):
            pause, share = FAST_SURVEY, COST_SHARE
        else:
            portions = max(living / LOOKED_AT, 1)
            pause = self._limits.survey_interval / portions if living else FOREVER
            share = CALM_SHARE
        cost = self._survey.cost if self._survey else 0.0
        last = max(self._surveyed_at, 0.0)
        self._deadlines.set(SURVEY, last + max(pause, cost / share))

    def _is_fresh(self, now: float) -> bool:
        """Whether the last look is good enough to start something by."""
        looked_at_all = self._survey_began >= self._gone_at and not self._unmeasured
        return looked_at_all and now - self._surveyed_at <= FRESH

    # --- admitting ------------------------------------------------------------------------

    def _admit(self, now: float) -> None:
        """Start whoever's turn it is; make room for the first for whom that helps."""
        if not self._room_changed:
            return
        lined_up = [model for model in self._queue if model not in self._unappraised]
        if lined_up and not self._is_fresh(now):
            self._take_survey(now)
        else:
            self._serve(lined_up, now)
        self._room_changed = False
        self._plan_survey()

    def _serve(self, lined_up: list[str], now: float) -> None:
        claims: dict[str, str] = {}
        obstacle = ""

        def serve(server: Server) -> None:
            nonlocal obstacle
            why = obstacle or self._hindrance() or self._relief(claims, now)
            passable = False
            if not why:
                why, passable = self._try(server, claims, now)
            if why:
                self._line_up(server.model, why)
                obstacle = "" if passable else "its turn"

        self._each([self._roster[model] for model in lined_up], serve, now)
        if self._is_overrun():
            # Whatever the reason: growth, a reload, an adoption, a size that was wrong.
            claims.update(dict.fromkeys(overrun(self._room(now), now), OVERRUN) | claims)
        self._claim(claims, now)

    def _hindrance(self) -> str:
        """Why nobody may start now; empty if nothing hinders."""
        if self._roster.count(life.TAKES_A_SLOT) >= self._limits.max_starts:
            return f"others to start, {self._limits.max_starts} at a time"
        return ""

    def _relief(self, claims: dict[str, str], now: float) -> str:
        """Return why nobody may start on a machine short of memory, else empty.

        What is unused goes first, the one after the other, each with a pause in which the
        machine may recover. Who waits is hindered only where nothing is left to go and the
        system's word is critical, and never where nothing runs: that would help nobody.
        """
        if not self._is_pressed or len(self._roster) == self._roster.count(life.WITHOUT_PROCESS):
            return ""
        if self._roster.count(life.LEAVING) or now < self._gone_at + CALM:
            return SHORT_OF_MEMORY
        chosen: tuple[str, ...] = ()
        if self._survey is not None and self._survey.pressured:
            chosen = cheapest_unused(self._room(now), now)
            claims.update(dict.fromkeys(chosen, OVERRUN))
        return SHORT_OF_MEMORY if chosen or self._is_critical else ""

    def _is_overrun(self) -> bool:
        """Return whether more is taken than is allowed by now."""
        if self._roster.reserved > self._limits.memory_budget:
            return True
        taken = self._roster.groups
        return any(taken.get(group, 0) > most for group, most in self._limits.groups.items())

    def _try(self, server: Server, claims: dict[str, str], now: float) -> tuple[str, bool]:
        """Start it if there is room; else what it waits for, and whether others may pass."""
        waited = now - self._queue[server.model]
        demand = Demand(server.model, server.expected, server.settings.groups, waited)
        decided = verdict(demand, self._room(now), now)
        match decided:
            case Admit():
                self._start(server)
                return "", True
            case Refuse():
                self._turn_away(server, too_large(server, self._limits.memory_budget))
                return "", True
            case EvictFirst(models, why):
                claims.update(dict.fromkeys(models, server.model))
                return why, False
            case Wait(why, passable):
                self._look_at_the_busy(now)
                return why, passable

    def _look_at_the_busy(self, now: float) -> None:
        """Whether they still are, since somebody waits for that."""
        for model, until in self._busy_until.items():
            if until <= now:
                self._check_use(self._roster[model])

    def _start(self, server: Server) -> None:
        generation = server.latest + 1
        self._put(life.admitted(server, generation))
        self._out.append(steps.Prepare(server.model, generation, server.settings))

    def _line_up(self, model: str, why: str) -> None:
        """Tell those who watch what it waits for, if that is news."""
        position = list(self._queue).index(model) + 1
        told = life.in_line(self._roster[model], position, f"waits for {why}")
        if told != self._roster[model]:
            self._put(told)

    def _room(self, now: float) -> Room:
        available = FOREVER
        if self._survey is not None:
            # What only waits to become a server gives way.
            available = self._survey.available + self._survey.standbys
            available -= self._limits.memory_reserve
        return Room(
            budget=self._limits.memory_budget,
            reserved=self._roster.reserved,
            growth=self._roster.growth,
            available=available,
            returning=now < self._gone_at + RETURN_TIME,
            residents=lambda: self._residents(now),
            taken=self._roster.groups,
            groups=self._limits.groups,
        )

    def _residents(self, now: float) -> tuple[Resident, ...]:
        return tuple(self._resident(server, now) for server in self._roster if server.takes_room)

    def _resident(self, server: Server, now: float) -> Resident:
        candidate = Candidate(
            model=server.model,
            freed=max(server.reserved, 1),
            load_seconds=life.load_seconds(server, USUAL_LOAD),
            last_used_at=server.last_used_at,
            uses=self._uses.get(server.model, Uses(now)).count(now),
        )
        standing = self._standing(server)
        return Resident(candidate, standing, server.settings.groups, server.resides_until)

    def _standing(self, server: Server) -> Standing:
        # An eviction that found it busy is about to be refused.
        is_evicted = self._evictions.of(server.model) and server.model not in self._busy_until
        if server.phase in life.LEAVING or is_evicted:
            return Standing.LEAVING
        if server.holds or server.settings.pinned:
            return Standing.FIXED
        if server.phase is not Phase.READY:
            return Standing.COMING
        return Standing.BUSY if server.model in self._busy_until else Standing.UNUSED

    # --- claims ---------------------------------------------------------------------------

    def _claim(self, claims: dict[str, str], now: float) -> None:
        """These are to go; whoever was to go before, and is not now, is given out again."""
        released = self._claims.keys() - claims.keys()
        self._claims = claims

        def look(server: Server) -> None:
            if self._look_due(server) <= now:
                self._check_use(server)
            else:
                self._arm(server)

        self._each([self._roster[model] for model in claims], look, now)
        given_out = [self._roster[one] for one in released if not self._evictions.of(one)]
        self._each(given_out, lambda server: self._stay(server, now, busy=False), now)
