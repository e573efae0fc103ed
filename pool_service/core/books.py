"""What the pool knows, and the ways in which it is written.

Everything above (`supervision.py` and what builds on it) changes the state by these
few methods, so that what is shown, what is due and who is told stay in step.
"""

from collections.abc import Iterable
from dataclasses import replace

from pool_service.core import steps
from pool_service.core.activity import SeenUse
from pool_service.core.catalogue import Catalogue
from pool_service.core.deadlines import Deadlines
from pool_service.core.errors import PoolError
from pool_service.core.evictions import Evictions
from pool_service.core.failures import model_unknown, name_taken, runtime_model_unlisted
from pool_service.core.holds import Holds
from pool_service.core.limits import Limits
from pool_service.core.namings import Namings
from pool_service.core.refusals import Refusals
from pool_service.core.replacement import Uses
from pool_service.core.requests import (
    INTERNAL,
    Answer,
    Broke,
    Ensured,
    EnsureRequested,
    HoldRequested,
    KeepStandbys,
    Learn,
    Publish,
    RecordNamings,
    RecoveryEnded,
    TakeSurvey,
    Wait,
)
from pool_service.core.roster import Roster
from pool_service.core.similar import similar
from pool_service.core.types import FOREVER, Cause, Past, Phase, Server, Settings
from pool_service.core.vitality import Vitality
from pool_service.core.waiting import Waiting

Command = (
    Answer
    | Broke
    | Publish
    | RecoveryEnded
    | TakeSurvey
    | KeepStandbys
    | Learn
    | RecordNamings
    | steps.ServerCommand
)

OUR_OWN_WISH = frozenset({Cause.EVICTED, Cause.SHUTDOWN})
"""Causes of an end after which nobody who holds it, or has it pinned, gets it again."""

MOST_REMEMBERED = 4096
"""Models of which is known how often they were asked for, or how their last process ended; the
ones longest unused are forgotten."""


class Books:
    """The state of the pool, and the commands that the present event has led to."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        self._catalogue = catalogue
        self._limits = limits
        self._closing = False
        self._roster = Roster()
        self._pasts: dict[str, Past] = {}
        self._refusals = Refusals()
        self._namings = Namings()
        self._waiting = Waiting()
        self._holds = Holds()
        self._evictions = Evictions()
        self._deadlines = Deadlines()
        self._queue: dict[str, float] = {}
        self._unappraised: set[str] = set()
        self._claims: dict[str, str] = {}
        self._busy_until: dict[str, float] = {}
        self._unmeasured: set[str] = set()
        self._beside = dict[tuple[str, int], str]()
        self._gone_at = -FOREVER
        self._room_changed = False
        self._uses = dict[str, Uses]()
        self._checking: set[str] = set()
        self._marked: set[str] = set()
        self._early_looks: set[str] = set()
        self._adopting: set[str] = set()
        self._lost_ports: dict[str, int] = {}
        self._in_haste = False
        self._timed_out: set[str] = set()
        self._vitality = dict[str, Vitality]()
        self._seen_use = dict[str, SeenUse]()
        self._out: list[Command] = []

    def _put(self, server: Server, *, of_holds: bool = False) -> None:
        """A change that everybody who watches is told; see Publish."""
        server = replace(server, holds=self._holds.count(server.model))
        before = self._roster.put(server)
        if server.phase is not Phase.QUEUED:
            self._unqueue(server.model)
        if server.phase is not Phase.READY:
            self._checking.discard(server.model)
            self._marked.discard(server.model)
            self._claims.pop(server.model, None)
            self._busy_until.pop(server.model, None)
            self._unmeasured.discard(server.model)
            self._vitality.pop(server.model, None)
            self._seen_use.pop(server.model, None)
            if before is not None and before.phase is Phase.READY:
                self._want_again(server)
        if server.phase is not Phase.STARTING:
            self._timed_out.discard(server.model)
        if server.phase is not Phase.STOPPING:
            self._early_looks.discard(server.model)
        if server.phase in (Phase.READY, Phase.FAILED):
            self._lost_ports.pop(server.model, None)
        self._room_changed = True
        self._arm(server)
        self._out.append(Publish(server, before.phase if before else None, of_holds=of_holds))

    def _keep(self, server: Server) -> None:
        """A change that nobody watches for."""
        self._roster.put(server)
        self._arm(server)

    def _arm(self, server: Server) -> None:
        """Nothing is due for one of which we wait to hear how it is."""
        asked = server.model in self._checking or server.model in self._adopting
        self._deadlines.set(server.model, FOREVER if asked else self._due(server))

    def _due(self, server: Server) -> float:
        """When something is to be done about it if nothing happens before."""
        if server.phase is not Phase.READY:
            return server.step_deadline
        return min(self._look_due(server), server.step_deadline)

    def _look_due(self, server: Server) -> float:
        """When a READY one is to be asked whether it is used."""
        look = server.expires_at
        if server.model in self._claims:
            look = min(look, server.resides_until)
        return max(look, self._busy_until.get(server.model, look))

    def _drop(self, server: Server) -> None:
        """It is no longer in the pool; its generation and last exit stay known."""
        model = server.model
        self._unqueue(model)
        if server.serves:
            self._beside.pop((server.serves, server.generation), None)
        elif server.generation:
            self._remember_past(server)
        self._roster.remove(model)
        self._room_changed = True
        self._lost_ports.pop(model, None)
        self._deadlines.set(model, FOREVER)
        # Who held it was told before, and holds it no longer.
        gone = replace(server, holds=self._holds.count(model))
        self._out.append(Publish(gone, server.phase, removed=True))

    def _remember_past(self, server: Server) -> None:
        """Keep the generation and the last exit of a model's server."""
        model = server.model
        self._pasts.pop(model, None)
        self._pasts[model] = Past(model, server.generation, server.last_exit, server.given)
        if len(self._pasts) > MOST_REMEMBERED:
            del self._pasts[next(iter(self._pasts))]

    def _unqueue(self, model: str) -> None:
        """It waits for its turn no longer."""
        self._queue.pop(model, None)
        if model in self._unappraised:
            self._unappraised.discard(model)
            generation = self._roster[model].generation
            self._out.append(steps.CancelAppraise(model, generation))

    def _want_again(self, server: Server) -> None:
        """It is no longer READY: it is started anew for who holds it, or where it is pinned."""
        model = server.model
        if self._closing or server.serves or server.stop_cause in OUR_OWN_WISH:
            return
        was = server.settings.named_by_caller if self._is_served(server) else ""
        for hold in self._holds.of(model):
            self._waiting.add(model, self._wait_of(model, hold, was))
        renewed = server.stop_cause is Cause.CEILING
        if renewed or self._catalogue.settings_for(model, was).pinned:
            keep_alive = server.keep_alive if renewed else None
            ours = EnsureRequested(INTERNAL, model, keep_alive=keep_alive)
            self._waiting.add(model, self._wait_of(model, ours, was))

    def _wait_of(self, model: str, asked: EnsureRequested | HoldRequested, was: str = "") -> Wait:
        """For what one waits who asks now; was: the runtime model if it names none itself."""
        settings = self._catalogue.settings_for(model, asked.runtime_model or was)
        download = settings.download if asked.download is None else asked.download
        return Wait(
            asked.ticket,
            asked.runtime_model,
            settings,
            asked.keep_alive,
            starts=True,
            download=download,
        )

    def _is_served(self, server: Server) -> bool:
        """Return whether the catalogue still has a server's model, by its name and as it runs."""
        model, named = server.named, server.settings.named_by_caller
        return self._catalogue.resolve(model) == model and self._catalogue.serves(model, named)

    def _not_served(self, model: str, runtime_model: str = "") -> PoolError:
        """Return the refusal for a model that is not, or no longer, served as `runtime_model`."""
        meant = self._catalogue.resolve(model)
        if meant != model:
            return name_taken(model, meant)
        if self._catalogue.serves(model):
            return runtime_model_unlisted(model, runtime_model)
        return model_unknown(model, self._similar(model))

    def _similar(self, model: str) -> tuple[str, ...]:
        """Return the models that may have been meant: listed, named before, or run before."""
        listed = (*self._catalogue.models, *self._catalogue.aliases)
        if self._catalogue.only_listed:
            return similar(model, listed)
        # The newest first: so many are looked at.
        before = (*reversed([*self._namings.all()]), *reversed(self._pasts))
        return similar(model, (*listed, *before))

    def _refuse_unserved(self, model: str) -> None:
        """Answer everybody who waits for or holds what may no longer be started."""
        if self._catalogue.resolve(model) != model or not self._catalogue.serves(model):
            self._dismiss(model, self._not_served(model))
        # Who holds it may wait for it as well.
        named = {wait.ticket: wait.runtime_model for wait in self._waiting.of(model)}
        named |= {hold.ticket: hold.runtime_model for hold in self._holds.of(model)}
        for ticket, runtime_model in named.items():
            if not self._catalogue.serves(model, runtime_model):
                self._waiting.leave(ticket)
                self._answer(ticket, self._not_served(model, runtime_model))

    def _up_to_date(self, server: Server) -> Server:
        """As the configuration says it now; outdated if its process would have to be another."""
        if server.serves:
            return server
        was = server.settings
        now_said = self._settings_now(server)
        same = (now_said.runtime_model, now_said.recipe) == (was.runtime_model, was.recipe)
        if not same or not self._is_served(server):
            return replace(server, outdated=True)
        kept = server.keep_alive == was.keep_alive
        keep_alive = now_said.keep_alive if kept else server.keep_alive
        return replace(server, settings=now_said, keep_alive=keep_alive, outdated=False)

    def _settings_now(self, server: Server) -> Settings:
        return self._catalogue.settings_for(server.model, server.settings.named_by_caller)

    def _server_of(self, model: str, generation: int) -> Server | None:
        """Whose process this is, under whatever name it goes now."""
        server = self._roster.get(self._beside.get((model, generation), model))
        return server if server is not None and server.generation == generation else None

    def _stand_beside(self, server: Server) -> None:
        """Note that a process goes by another name from now on, to find it by its generation."""
        self._beside[server.serves, server.generation] = server.model

    def _others(self, model: str) -> list[Server]:
        """What runs for the model beside its server."""
        keys = [key for (served, _), key in self._beside.items() if served == model]
        return [server for key in keys if (server := self._roster.get(key)) is not None]

    def _known(self, model: str) -> Server | Past | None:
        """The model's server, or what is left of its last."""
        return self._roster.get(model) or self._pasts.get(model)

    def _refuse(self, model: str, error: PoolError) -> None:
        """Everybody who waits for the model is told the same."""
        for wait in self._waiting.of(model):
            self._answer(wait.ticket, error)
        self._waiting.take(model)

    def _dismiss(self, model: str, error: PoolError) -> None:
        """Whoever waits for it or holds it does so no longer."""
        self._refuse(model, error)
        for hold in self._holds.of(model):
            self._answer(hold.ticket, error)

    def _note_naming(self, model: str, runtime_model: str) -> None:
        """Remember what a caller named as the runtime model of a server that is READY.

        Not of a model that the catalogue lists, which wins; what is the model's own anyway
        ends the memory of another one.
        """
        if model in self._catalogue.models:
            return
        if runtime_model == self._catalogue.configured(model):
            self._forget_namings([model])
        elif self._namings.add(model, runtime_model):
            self._out.append(RecordNamings(self._namings.all()))

    def _forget_namings(self, models: Iterable[str]) -> str:
        """Return the last runtime model that was remembered of these, or nothing."""
        forgotten = self._namings.forget(models)
        if forgotten:
            self._out.append(RecordNamings(self._namings.all()))
        return forgotten[-1] if forgotten else ""

    def _named_before(self, model: str) -> str:
        """Return the runtime model that a caller means who names none, or nothing."""
        is_ruled = model in self._catalogue.models or self._catalogue.only_listed
        return "" if is_ruled else self._namings.get(model)

    def _touch(self, model: str, now: float) -> None:
        """It was asked for: how often counts when somebody has to go."""
        self._uses[model] = self._uses.pop(model, Uses(now)).used(now)
        if len(self._uses) > MOST_REMEMBERED:
            del self._uses[next(iter(self._uses))]

    def _answer(self, ticket: int, result: Ensured | PoolError) -> None:
        """Tell who asked; of a hold only its end is told, the rest is seen."""
        if ticket == INTERNAL:
            return
        if isinstance(result, Ensured):
            if not self._holds.has(ticket):
                self._out.append(Answer(ticket, result))
            return
        self._out.append(Answer(ticket, result))
        held = self._holds.end(ticket)
        server = self._roster.get(held) if held is not None else None
        if server is not None:
            self._put(server)
