"""The state of the pool, and the few ways in which its parts change it.

Every part reads and writes this one state, one event at a time. What is shown, what is due and
who is told stay in step since all go by `put`, `keep`, `drop`, `answer` and `refuse`.
"""

from collections.abc import Iterable
from dataclasses import replace

from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Answer, CancelEstimate, Command, Publish, RecordNamings
from pool_service.core.deadlines import Deadlines
from pool_service.core.errors import PoolError
from pool_service.core.eviction_policy import Uses
from pool_service.core.evictions import Evictions
from pool_service.core.lifecycle import TAKES_A_SLOT, TRANSITIONS
from pool_service.core.limits import Limits
from pool_service.core.remembered import Namings, Refusals
from pool_service.core.results import Ensured
from pool_service.core.server import LastRun, Phase, Role, Server, ServerId
from pool_service.core.story import Choice, Decision, Stories
from pool_service.core.table import Record, ServerTable
from pool_service.core.types import FOREVER
from pool_service.core.waiters import Holds, Waiters

MOST_REMEMBERED = 4096
"""Models of which is known how often they were asked for, or how their last process ended; the
ones longest unused are forgotten."""


class PoolState:
    """What the pool knows, and the commands that the present event has led to.

    table: the servers. unmeasured: those that no memory sample saw since they were READY.
    overgrown: those past their memory ceiling beside which no second one fits.
    queue: since when each server waits for its turn, in the order of turns.
    pasts: what is left of models without a server. gone_at: when a process was last gone.
    capacity_changed: who waits for a turn is to be looked at again after this event.
    stories: the last decisions of each model. event, now: what is handled at present, by the
    name of its kind, and when it came.
    is_closing: the service ends; is_leaving: it leaves its servers running; is_hurried: its
    stops do not wait.
    """

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        self.catalogue = catalogue
        self.limits = limits
        self.table = ServerTable()
        self.queue: dict[ServerId, float] = {}
        self.waiters = Waiters()
        self.holds = Holds()
        self.evictions = Evictions()
        self.deadlines = Deadlines()
        self.pasts: dict[str, LastRun] = {}
        self.refusals = Refusals()
        self.namings = Namings()
        self.uses: dict[str, Uses] = {}
        self.unmeasured: set[ServerId] = set()
        self.over_limit: set[ServerId] = set()
        self.gone_at = -FOREVER
        self.capacity_changed = False
        self.is_closing = False
        self.is_leaving = False
        self.is_escalated = False
        self.stories = Stories()
        self.event = ""
        self.now = 0.0
        self.commands: list[Command] = []

    # --- servers ----------------------------------------------------------------------------

    def put(
        self, server: Server, *, of_holds: bool = False, choice: Choice | None = None
    ) -> Record:
        """Change a server, publish that, and note a change of phase or role in its story.

        of_holds: see Publish; choice: what was weighed for the change.
        """
        known = self.table.find(server.id)
        self._check_transition(known.server.phase if known else None, server.phase)
        server = replace(server, holds=self._holds_of(server))
        before = self.table.put(server)
        record = self.table.find(server.id)
        assert record is not None
        if server.phase is not Phase.QUEUED:
            self.unqueue(record)
        if before is None or before.phase is not server.phase:
            self.clear_marks(record)
        if before is None:
            # Nothing is known yet of what it needs.
            self.capacity_changed |= server.phase is not Phase.QUEUED
        else:
            self.capacity_changed |= _takes(before) != _takes(server)
        self.arm(record)
        phase = before.phase if before else None
        if before is None or phase is not server.phase or before.role is not server.role:
            self.note(server, phase, server.phase, choice=choice)
        self.commands.append(Publish(server, phase, of_holds=of_holds))
        return record

    def note(
        self,
        server: Server,
        before: Phase | None,
        after: Phase | None,
        why: str = "",
        choice: Choice | None = None,
    ) -> None:
        """Add a decision of a server to the story of its model."""
        cause = server.stop_cause.value if server.stop_cause else ""
        told = why or server.detail or cause
        self.stories.add(
            Decision(self.now, self.event, server.id, server.role, before, after, told, choice)
        )

    def _check_transition(self, before: Phase | None, after: Phase | None) -> None:
        assert before is after or after in TRANSITIONS[before], f"{before} became {after}"

    def clear_marks(self, record: Record) -> None:
        """Clear what is kept of a server that has no meaning in its phase."""
        record.keep_marks_of(record.server.phase)
        if record.server.phase is not Phase.READY:
            self.unmeasured.discard(record.server.id)
            self.over_limit.discard(record.server.id)

    def keep(self, server: Server) -> None:
        """Change a server in a way that nobody watches for."""
        self.table.put(server)
        record = self.table.find(server.id)
        assert record is not None
        self.arm(record)

    def drop(self, server: Server) -> None:
        """Take a server out; the generation and the last exit of its model stay known."""
        record = self.table.find(server.id)
        assert record is not None
        self._check_transition(record.server.phase, None)
        if server.is_current and server.latest:
            self.remember_past(server)
        self.unqueue(record)
        self.table.remove(server.id)
        self.unmeasured.discard(server.id)
        self.over_limit.discard(server.id)
        self.deadlines.set(server.id, FOREVER)
        self.capacity_changed = True
        self.note(server, record.server.phase, None)
        # Who held it was told before, and holds it no longer.
        gone = replace(server, holds=self._holds_of(server))
        self.commands.append(Publish(gone, server.phase, removed=True))

    def unqueue(self, record: Record) -> None:
        """Let a server wait for its turn no longer."""
        self.queue.pop(record.server.id, None)
        if record.is_estimating:
            record.is_estimating = False
            self.commands.append(CancelEstimate(record.server.id))

    def remember_past(self, server: Server) -> None:
        """Keep what outlives the server of a model."""
        model = server.model
        self.pasts.pop(model, None)
        self.pasts[model] = LastRun(model, server.latest, server.last_exit)
        if len(self.pasts) > MOST_REMEMBERED:
            del self.pasts[next(iter(self.pasts))]

    def known(self, model: str) -> Server | LastRun | None:
        """Return the newest of what is known of a model: a server, or what is left of one."""
        records = [*self.table.beside(model), self.table.current(model)]
        servers = [record.server for record in records if record is not None]
        newest = max(servers, key=lambda one: (one.latest, one.generation), default=None)
        past = self.pasts.get(model)
        return past if newest is None or (past and past.latest > newest.latest) else newest

    def _holds_of(self, server: Server) -> int:
        return self.holds.count(server.model) if server.role is Role.CURRENT else 0

    # --- deadlines --------------------------------------------------------------------------

    def arm(self, record: Record) -> None:
        """Set when a server is due; never while an answer about it is awaited."""
        is_asked = record.is_checking or record.is_adopting
        self.deadlines.set(record.server.id, FOREVER if is_asked else self.due(record))

    def due(self, record: Record) -> float:
        """Return when something is to be done about a server if nothing happens before."""
        server = record.server
        if server.phase is not Phase.READY:
            return server.step_deadline
        return min(self.check_due(record), server.step_deadline)

    def check_due(self, record: Record) -> float:
        """Return when a READY server is to be asked whether it is used."""
        server = record.server
        at = server.expires_at
        if record.is_preempted:
            at = min(at, server.resides_until)
        return at if record.busy_until is None else max(at, record.busy_until)

    # --- callers ----------------------------------------------------------------------------

    def answer(self, request_id: int | None, result: Ensured | PoolError) -> None:
        """Answer a request once; of a hold only its end is told, since the rest is seen.

        ticket: None where the pool itself wanted it.
        """
        if request_id is None:
            return
        if isinstance(result, Ensured):
            if not self.holds.has(request_id):
                self.commands.append(Answer(request_id, result))
            return
        self.commands.append(Answer(request_id, result))
        model = self.holds.end(request_id)
        record = self.table.current(model) if model is not None else None
        if record is not None:
            self.put(record.server)

    def refuse(self, model: str, error: PoolError) -> None:
        """Answer all who wait for a model with an error."""
        for waiter in self.waiters.of(model):
            self.answer(waiter.request_id, error)
        self.waiters.take(model)

    def dismiss(self, model: str, error: PoolError) -> None:
        """Answer all who wait for a model, and end all holds of it, with an error."""
        self.refuse(model, error)
        for hold in self.holds.of(model):
            self.answer(hold.request_id, error)

    def touch(self, model: str, now: float) -> None:
        """Count a use of a model, which counts when somebody has to go."""
        self.uses[model] = self.uses.pop(model, Uses(now)).used(now)
        if len(self.uses) > MOST_REMEMBERED:
            del self.uses[next(iter(self.uses))]

    # --- the runtime models that callers named ----------------------------------------------

    def note_naming(self, model: str, runtime_model: str) -> None:
        """Remember the runtime model that a caller named for a server that is READY.

        Not of a model that the catalogue lists, which wins; what is the model's own anyway
        ends the memory of another one.
        """
        if model in self.catalogue.models:
            return
        if runtime_model == self.catalogue.configured(model):
            self.forget_namings([model])
        elif self.namings.add(model, runtime_model):
            self.commands.append(RecordNamings(self.namings.all()))

    def forget_namings(self, models: Iterable[str]) -> str:
        """Forget the runtime models of these models; return the last that was known, or ""."""
        forgotten = self.namings.forget(models)
        if forgotten:
            self.commands.append(RecordNamings(self.namings.all()))
        return forgotten[-1] if forgotten else ""


def _takes(server: Server) -> tuple[object, ...]:
    """Return what a server means for the capacity that is left to others."""
    phase = Phase.STARTING if server.phase in TAKES_A_SLOT else server.phase
    needs = server.reserved, server.expected, server.settings
    return phase, server.role, server.holds, *needs
