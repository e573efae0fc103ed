"""The state of the pool, shared by all parts of the core, and the methods that change it.

The parts read and write this state, one event at a time.
- They change servers by `put`, `put_unpublished` and `drop`, so that the server table, the
  deadlines and the published changes stay in step. The warm path alone writes the table itself
  (`Requests._hand_out`), since it changes nothing that is published.
- They answer waiters and holders by `answer`, `fail_waiters` and `fail_callers`, so that nobody is
  answered twice. Requests that never wait here (Reload, Forget, Pin), and evictions, which keep
  their own account (`evictions.py`), are answered by an Answer among the commands.
- `Containment` does the same by means of its own, since any of these methods may have raised.
"""

from collections.abc import Iterable
from dataclasses import replace

from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import (
    Answer,
    CancelEstimate,
    Command,
    Preemptor,
    Publish,
    RecordNamings,
    RecordPins,
)
from pool_service.core.deadlines import Deadlines
from pool_service.core.errors import PoolError
from pool_service.core.evictions import Evictions
from pool_service.core.lifecycle import TAKES_A_SLOT, TRANSITIONS
from pool_service.core.limits import Limits
from pool_service.core.preemption_policy import Uses
from pool_service.core.remembered import FailedStarts, Namings, Pins
from pool_service.core.results import Ensured
from pool_service.core.runs import Runs
from pool_service.core.server import Cause, LastRun, Phase, Role, Server, ServerId
from pool_service.core.story import Choice, Decision, Stories
from pool_service.core.table import Row, ServerTable
from pool_service.core.types import FOREVER, Settings
from pool_service.core.waiters import Holds, Waiters

MAX_MODELS_REMEMBERED = 4096
"""The number of models whose uses, and whose last runs, are remembered. Beyond it those longest
unused are forgotten: clients may name any number of models."""


class PoolState:
    """Hold what the pool knows, and the commands that the present event has led to.

    table: the servers.
    queue: the time from which each queued server waits, in queue order.
    pasts: the last runs of models without a server.
    failed_starts: the errors of starts that left no FAILED server.
    uses: how often each model was used.
    unmeasured: servers that no memory sample has seen since they became READY.
    recycle_in_place: servers to preempt for their own next generation, since they are due for
    recycling, and no successor fits beside them.
    evicted_home: the home model, if it was evicted since somebody last asked for it; else empty.
    gone_at: when a process was last cleaned up.
    capacity_changed: the scheduler has to run after this event.
    has_recovered: orphans have been looked for. Nothing is started before that, since its process
    would be taken for an orphan.
    is_closing: the service shuts down.
    is_detaching: the service ends and leaves its servers running.
    is_escalated: stops no longer wait for requests in flight.
    stories: the last decisions about each model.
    runs: when the last generations of each model went through their stages.
    event, now: the class name and the time of the event that is being handled.
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
        self.failed_starts = FailedStarts()
        self.namings = Namings()
        self.pins = Pins()
        self.uses: dict[str, Uses] = {}
        self.unmeasured: set[ServerId] = set()
        self.recycle_in_place: set[ServerId] = set()
        self.evicted_home = ""
        self.gone_at = -FOREVER
        self.capacity_changed = False
        self.has_recovered = False
        self.is_closing = False
        self.is_detaching = False
        self.is_escalated = False
        self.stories = Stories()
        self.runs = Runs()
        self.event = ""
        self.now = 0.0
        self.commands: list[Command] = []

    # --- servers ----------------------------------------------------------------------------

    def put(
        self,
        server: Server,
        *,
        of_holds: bool = False,
        choice: Choice | None = None,
        is_recorded: bool = False,
    ) -> Row:
        """Add or change a server, publish the change, and return the server's row.

        What follows from the change is done here, for all parts: the server leaves the queue
        unless it is QUEUED, loses the marks that have no meaning in its phase, gets its
        deadline, and a change of phase or role is noted in the story of the model.

        of_holds: only the holds have changed, which is no news to holders.
        choice: the figures of the admission that led to the change.
        is_recorded: an earlier service left the server in its phase.
        """
        known = self.table.find(server.id)
        self._check_transition(known.server.phase if known else None, server.phase)
        server = replace(server, holds=self._holds_of(server))
        before = self.table.put(server)
        row = self.table.find(server.id)
        assert row is not None
        # Before the marks are cleared.
        preemptor = self._preemptor_of(row)
        if server.phase is not Phase.QUEUED:
            self.unqueue(row)
        if before is None or before.phase is not server.phase:
            self.clear_marks(row)
            self.runs.note(server, self.now, is_recorded=is_recorded)
        if before is None:
            # A QUEUED server has no estimate yet, so it does not affect the schedule.
            self.capacity_changed |= server.phase is not Phase.QUEUED
        else:
            self.capacity_changed |= _share_of_capacity(before) != _share_of_capacity(server)
        self.arm(row)
        phase = before.phase if before else None
        role = before.role if before and before.role is not server.role else None
        if before is None or phase is not server.phase or role is not None:
            self.note(server, phase, server.phase, choice=choice)
        self.commands.append(
            Publish(server, phase, of_holds=of_holds, preemptor=preemptor, before_role=role)
        )
        return row

    def _preemptor_of(self, row: Row) -> Preemptor | None:
        """Return the model that a server begins to stop for; None if it does not."""
        server, model = row.server, row.preempted_for
        if model is None or server.phase is not Phase.STOPPING:
            return None
        if server.stop_cause is not Cause.PREEMPTED:
            return None
        queued = self.table.current(model)
        return Preemptor(model, queued.server.expected if queued is not None else 0)

    def note(
        self,
        server: Server,
        before: Phase | None,
        after: Phase | None,
        why: str = "",
        choice: Choice | None = None,
    ) -> None:
        """Add a decision about a server to the story of its model."""
        cause = server.stop_cause.value if server.stop_cause else ""
        told = why or server.detail or cause
        self.stories.add(
            Decision(self.now, self.event, server.id, server.role, before, after, told, choice)
        )

    def _check_transition(self, before: Phase | None, after: Phase | None) -> None:
        assert before is after or after in TRANSITIONS[before], f"{before} became {after}"

    def clear_marks(self, row: Row) -> None:
        """Clear the marks of a server that have no meaning in its phase."""
        row.clear_marks_outside(row.server.phase)
        if row.server.phase is not Phase.READY:
            self.unmeasured.discard(row.server.id)
            self.recycle_in_place.discard(row.server.id)

    def put_unpublished(self, server: Server) -> None:
        """Change a server without publishing the change."""
        self.table.put(server)
        row = self.table.find(server.id)
        assert row is not None
        self.arm(row)

    def drop(self, server: Server) -> None:
        """Remove a server and publish that; its model's last run stays known."""
        row = self.table.find(server.id)
        assert row is not None
        self._check_transition(row.server.phase, None)
        if server.is_current and server.last_generation:
            self.remember_past(server)
        self.unqueue(row)
        self.runs.withdraw(row.server)
        self.table.remove(server.id)
        self.unmeasured.discard(server.id)
        self.recycle_in_place.discard(server.id)
        self.deadlines.set(server.id, FOREVER)
        self.capacity_changed = True
        self.note(server, row.server.phase, None)
        # Holders were answered before, so the count may be lower than the server's own.
        gone = replace(server, holds=self._holds_of(server))
        self.commands.append(Publish(gone, server.phase, removed=True))

    def unqueue(self, row: Row) -> None:
        """Take a server out of the queue, and cancel its estimate if one is under way."""
        self.queue.pop(row.server.id, None)
        if row.is_estimating:
            row.is_estimating = False
            self.commands.append(CancelEstimate(row.server.id))

    def remember_past(self, server: Server) -> None:
        """Remember the last run of a server's model."""
        model = server.model
        self.pasts.pop(model, None)
        self.pasts[model] = LastRun(model, server.last_generation, server.last_exit)
        if len(self.pasts) > MAX_MODELS_REMEMBERED:
            del self.pasts[next(iter(self.pasts))]

    def known(self, model: str) -> Server | LastRun | None:
        """Return the newest server of a model, or its last run, or None."""
        rows = [*self.table.beside(model), self.table.current(model)]
        servers = [row.server for row in rows if row is not None]
        newest = max(servers, key=lambda one: (one.last_generation, one.generation), default=None)
        past = self.pasts.get(model)
        return (
            past
            if newest is None or (past and past.last_generation > newest.last_generation)
            else newest
        )

    def next_generation(self, model: str, known: Server | LastRun | None) -> int:
        """Return the generation of a model's next server, at least what its waiters ask for.

        known: the newest server or last run of the model.
        """
        own = known.last_generation + 1 if known is not None else 1
        return max(own, self.waiters.least_generation(model))

    def _holds_of(self, server: Server) -> int:
        return self.holds.count(server.model) if server.role is Role.CURRENT else 0

    # --- deadlines --------------------------------------------------------------------------

    def arm(self, row: Row) -> None:
        """Set the deadline of a server; none while an idle check or adoption is under way."""
        is_asked = row.is_checking or row.is_adopting
        self.deadlines.set(row.server.id, FOREVER if is_asked else self.due(row))

    def due(self, row: Row) -> float:
        """Return the next deadline of a server: of its phase, or of its next idle check."""
        server = row.server
        if server.phase is not Phase.READY:
            return server.step_deadline
        return min(self.check_due(row), server.step_deadline)

    def check_due(self, row: Row) -> float:
        """Return when the next idle check of a READY server is due."""
        server = row.server
        at = server.expires_at
        if row.is_preempted:
            at = min(at, server.resides_until)
        return at if row.busy_until is None else max(at, row.busy_until)

    # --- callers ----------------------------------------------------------------------------

    def answer(self, request_id: int | None, result: Ensured | PoolError) -> None:
        """Answer a request, which waits no longer; a hold only with the error that ends it.

        A holder sees the state of its server by watching it, so a success is not sent.

        request_id: None for a request of the pool itself, which needs no answer.
        """
        if request_id is None:
            return
        self.waiters.leave(request_id)
        if isinstance(result, Ensured):
            if not self.holds.has(request_id):
                self.commands.append(Answer(request_id, result))
            return
        self.commands.append(Answer(request_id, result))
        model = self.holds.end(request_id)
        row = self.table.current(model) if model is not None else None
        if row is not None:
            self.put(row.server)

    def fail_waiters(self, model: str, error: PoolError) -> None:
        """Answer all waiters of a model with an error; this ends waiting holds as well."""
        for waiter in self.waiters.of(model):
            self.answer(waiter.request_id, error)
        self.waiters.take(model)

    def fail_callers(self, model: str, error: PoolError) -> None:
        """Answer all callers of a model, waiters and holders, with an error."""
        self.fail_waiters(model, error)
        for hold in self.holds.of(model):
            self.answer(hold.request_id, error)

    def touch(self, model: str, now: float) -> None:
        """Count a use of a model; the preemption policy weighs uses."""
        self.uses[model] = self.uses.pop(model, Uses(now)).used(now)
        if len(self.uses) > MAX_MODELS_REMEMBERED:
            del self.uses[next(iter(self.uses))]

    # --- what callers said of models ---------------------------------------------------------

    def settings_for(self, model: str, runtime_model: str = "") -> Settings:
        """Return the settings of a model as the catalogue and callers of Pin say."""
        return self.with_pin(model, self.catalogue.settings_for(model, runtime_model))

    def with_pin(self, model: str, settings: Settings) -> Settings:
        """Return configured settings of a model with the pin that callers have said, if any."""
        pinned = self.pins.get(model)
        return settings if pinned is None else replace(settings, pinned=pinned)

    def to_remember(self, model: str, *, pinned: bool | None) -> bool | None:
        """Return what is to be remembered of what callers say of a model's pin; None: nothing.

        A pin that is taken back is remembered only if the catalogue pins the model, so that one
        that the catalogue gets later is not held back by a call long past.
        """
        is_needed = pinned or self.catalogue.settings_for(model).pinned
        return pinned if is_needed else None

    def note_naming(self, model: str, runtime_model: str) -> None:
        """Remember the runtime model that a caller named for a model whose server is READY.

        1. Of a model that the catalogue lists nothing is remembered: the catalogue decides.
        2. The model's own runtime model makes the remembered one forgotten.
        3. Any other is remembered, and recorded if it is new.
        """
        if model in self.catalogue.models:
            return
        if runtime_model == self.catalogue.configured(model):
            self.forget_namings([model])
        elif self.namings.add(model, runtime_model):
            self.commands.append(RecordNamings(self.namings.all()))

    def record_order(self) -> None:
        """Record the order in which runtime models were named, if that alone has changed."""
        if self.namings.is_reordered:
            self.commands.append(RecordNamings(self.namings.all()))

    def fit_to_catalogue(self) -> list[str]:
        """Fit what callers said of models to a changed catalogue.

        1. The catalogue decides the runtime model of each model that it lists, even after it lists
           the model no more.
        2. A pin of a name that is an alias now is one of the model that the alias stands for,
           unless callers said something of that.
        3. A pin that was taken back is forgotten where the catalogue pins the model no more.

        Returns the models of whose pin something else is remembered now.
        """
        aliases = self.catalogue.aliases
        self.forget_namings([*self.catalogue.models, *aliases])
        before = self.pins.all()
        self.pins.move(aliases)
        for model, pinned in self.pins.all().items():
            self.pins.set(model, pinned=self.to_remember(model, pinned=pinned))
        changed = self.pins.changed_since(before)
        if changed:
            self.commands.append(RecordPins(self.pins.all()))
        return changed

    def forget_namings(self, models: Iterable[str]) -> str:
        """Forget the remembered runtime models of `models`; return the last of them, or ""."""
        forgotten = self.namings.forget(models)
        if forgotten:
            self.commands.append(RecordNamings(self.namings.all()))
        return forgotten[-1] if forgotten else ""


def _share_of_capacity(server: Server) -> tuple[object, ...]:
    """Return what of a server affects the capacity for others; equal if that has not changed."""
    phase = Phase.STARTING if server.phase in TAKES_A_SLOT else server.phase
    needs = server.reserved, server.expected, server.settings
    return phase, server.role, server.holds, *needs
