"""The pool as a state machine: events in, commands out, no I/O.

`Machine.handle(event, now)` is the only way in: it dispatches the event to the part that handles
it, applies the rules that follow every event, and returns commands in the order in which they are
to be carried out. The driver (`pool.py`) carries them out and feeds their results back as events.

Names
- An event says what happened, or what was asked for: `Spawned`, `EvictRequested`.
- The handler of an event that happened is `on_` and its name: `Supervisor.on_spawned`. The handler
  of a request is the verb: `EvictionRequests.evict`.
- A transition of a server is what the server then is: `life.spawned` (`lifecycle.py`).
- All other methods that change something are verbs: `Supervisor.start`.

Invariants (the tests assert them after every event)
- A model has at most one current server and one beside it; a server has at most one process.
- Every waiter is answered exactly once, while the event is handled that decides its request. A
  QUEUED server without waiters is dropped.
- At most `max_starts` starts are under way.
- A READY server that is held or has requests in flight is stopped only by force, by a shutdown, or
  since it does not serve them any more: it is wedged or has lost its listener.
- No server is admitted beyond the memory budget.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from pool_service.core import events as ev
from pool_service.core.callers import Callers
from pool_service.core.catalogue import Catalogue, Entry, Found, page_of_models
from pool_service.core.commands import Command, LogInternalError
from pool_service.core.description import Describer, Description, InLine
from pool_service.core.error_containment import Containment
from pool_service.core.events import Event
from pool_service.core.eviction_requests import EvictionRequests
from pool_service.core.failure_display import FailureDisplay
from pool_service.core.home_model import HomeModel
from pool_service.core.idle import IdleChecks
from pool_service.core.internal_error_policy import RETRY_PAUSE_S
from pool_service.core.internal_errors import FailedCommands, FailedEvents
from pool_service.core.limits import Limits
from pool_service.core.offer import Look, LookNeeded, Offer
from pool_service.core.offering import Offering
from pool_service.core.pinning import Pinning
from pool_service.core.readiness import ReadyServers
from pool_service.core.reconfigure import Reconfiguration
from pool_service.core.recycler import Recycler
from pool_service.core.requests import Requests
from pool_service.core.results import Totals
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import LastRun, Phase, Role, Server, ServerId
from pool_service.core.service_recovery import Recovery
from pool_service.core.standby_policy import StandbyPolicy
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.story import Decision
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.timers import Timers
from pool_service.core.types import FOREVER, Settings


class Machine:
    """Dispatch events to the parts of the core, and read the state that they share."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        self._unreturned: list[Command] = []
        state = self._state = PoolState(catalogue, limits)
        contain = self._containment = Containment(state)
        callers = self._callers = Callers(state)
        stopper = self._stopper = Stopper(state)
        failed = FailureDisplay(state)
        supervisor = self._supervisor = Supervisor(state, callers, stopper, failed)
        idle = self._idle = IdleChecks(state, stopper, supervisor)
        ready = self._ready = ReadyServers(state, supervisor)
        sampler = self._sampler = Sampler(state, contain)
        scheduler = self._scheduler = Scheduler(state, contain, callers, supervisor, idle, sampler)
        self._recycler = Recycler(state, supervisor, idle, ready, scheduler)
        self._standby = StandbyPolicy(state, sampler)
        self._home = HomeModel(state, supervisor, idle, sampler)
        self._timers = Timers(state, contain, stopper, supervisor, idle, ready, sampler, scheduler)
        pinning = self._pinning = Pinning(state, callers, scheduler, supervisor)
        self._reconfiguration = Reconfiguration(state, contain, callers, supervisor, pinning)
        recovery = self._recovery = Recovery(state, contain, callers, stopper, supervisor)
        requests = self._requests = Requests(state, callers, supervisor)
        self._offering = Offering(state, requests, sampler, scheduler)
        self._evicting = EvictionRequests(state, contain, stopper, supervisor, idle)
        self._failed_commands = FailedCommands(
            state, stopper, supervisor, idle, ready, scheduler, recovery
        )
        self._failed_events = FailedEvents(state, contain, sampler, recovery)
        self._describer = Describer(state, callers, scheduler)

    def handle(self, event: Event, now: float) -> list[Command]:
        """Change the state by an event; return the commands that follow from it, in order.

        An exception while an event is handled is contained: the server that the event is about is
        put right, and a LogInternalError is among the commands.
        """
        # `next_deadline` returns no commands: those that it issued go with the next event.
        self._state.commands, self._unreturned = self._unreturned, []
        self._state.event, self._state.now = type(event).__name__, now
        self._containment.event = event
        try:
            self._dispatch(event, now)
        except Exception as error:  # noqa: BLE001 - costs one model only
            self._failed_events.make_up_for(event, error, now)
        self._containment.event = None
        try:
            self._follow_up(now)
        except Exception as error:  # noqa: BLE001 - the next event tries again
            self._containment.break_off("", None, error, now)
            self._sampler.postpone(now + RETRY_PAUSE_S)
            # Else it would be called again at once, and may raise again.
            self._standby.due_at = FOREVER
        if self._containment.is_damaged:
            self._containment.audit(now)
        else:
            # Samples keep their usual times again after an event without an internal error.
            self._sampler.again_at = None
        return self._state.commands

    def _follow_up(self, now: float) -> None:
        """Apply the rules that follow every event, in this order.

        1. A successor is called off if the server that it is to replace is gone or to go.
        2. The home model is started if the pool is quiet, or given up if it no longer is.
        3. If capacity may have changed, the scheduler starts queued servers, or asks for a memory
           sample first. Once it has decided, the number of standby processes is set to what is
           needed and fits beside the servers; so it is when an earlier need is forgotten.
        4. RecoveryEnded is sent once every server of a recovery is settled.
        """
        if self._state.table.has_any_beside:
            rows = self._state.table.all_beside
            self._containment.each(rows, lambda one: self._recycler.call_off(one, now), now)
        home = self._state.catalogue.home
        self._containment.attempt(home, lambda _: self._home.update(now), now)
        is_scheduled = self._state.capacity_changed and self._scheduler.schedule(now)
        if is_scheduled or self._standby.due_at <= now:
            self._standby.update(now)
        if self._recovery.unsettled is not None:
            self._recovery.tell_when_settled()

    def _dispatch(  # noqa: C901, PLR0912, PLR0915  # a case for each event
        self, event: Event, now: float
    ) -> None:
        match event:
            case ev.EnsureRequested():
                self._requests.ensure(event, now)
            case ev.WaiterLeft():
                self._requests.on_waiter_left(event, now)
            case ev.HoldRequested():
                self._requests.hold(event, now)
            case ev.HoldEnded():
                self._requests.on_hold_ended(event, now)
            case ev.ForgetRequested():
                self._requests.forget(event)
            case ev.PinRequested():
                self._pinning.pin(event, now)
            case ev.ReloadRequested():
                self._reconfiguration.reload(event, now)
            case ev.EvictRequested():
                self._evicting.evict(event, now)
            case ev.ShutdownRequested():
                self._evicting.shut_down(event, now)
            case ev.DetachRequested():
                self._evicting.detach(now)
            case ev.ShutdownEscalated():
                self._evicting.escalate(now)
            case ev.TimeReached():
                self._timers.on_time_reached(event, now)
            case ev.MemorySampled():
                self._on_memory_sampled(event, now)
            case ev.RecoveryBegan():
                self._recovery.on_recovery_began(event, now)
            case ev.OrphansFound():
                self._on_orphans_found(event, now)
            case _:
                row = self._state.table.find(event.server_id)
                if row is not None:
                    self._dispatch_of(row, event, now)

    def _dispatch_of(  # noqa: C901, PLR0912, PLR0915  # a case for each event
        self, row: Row, event: ev.ServerEvent, now: float
    ) -> None:
        match event:
            case ev.MemoryEstimated():
                self._scheduler.on_memory_estimated(row, event, now)
            case ev.Fetching():
                self._scheduler.on_fetching(row, event)
            case ev.Fetched():
                self._scheduler.on_fetched(row)
            case ev.EstimateFailed():
                self._scheduler.on_estimate_failed(row, event, now)
            case ev.Prepared():
                self._supervisor.on_prepared(row, event)
            case ev.Spawned():
                self._supervisor.on_spawned(row, event, now)
            case ev.NotStarted():
                self._supervisor.on_not_started(row, event, now)
            case ev.BecameReady() if row.server.role is Role.SUCCESSOR:
                self._recycler.on_became_ready(row, event, now)
            case ev.BecameReady():
                self._ready.on_became_ready(row, event, now)
            case ev.BoundElsewhere():
                self._timers.on_bound_elsewhere(row, event, now)
            case ev.ListenerLost():
                self._ready.on_listener_lost(row, now)
            case ev.ServerProbed():
                self._ready.on_server_probed(row, event, now)
            case ev.ActivityReported():
                self._on_activity_reported(row, event, now)
            case ev.Exited():
                self._supervisor.on_exited(row, event, now)
            case ev.CleanedUp():
                self._supervisor.on_cleaned_up(row, event, now)
            case ev.LogRead():
                self._timers.on_log_read(row, event, now)
            case ev.Adopted():
                self._recovery.on_adopted(row, event, now)
            case ev.CommandFailed():
                self._failed_commands.on_command_failed(row, event, now)
            case _:
                assert_never(event)

    def _on_activity_reported(self, row: Row, event: ev.ActivityReported, now: float) -> None:
        if row.server.phase is Phase.STOPPING:
            self._stopper.on_activity_reported(row, event.activity, now)
        elif row.server.phase is Phase.READY:
            if row.server.settings.memory_limit is not None:
                self._recycler.on_activity_reported(row, event.activity, now)
            self._idle.on_activity_reported(row, event.activity, now)

    def _on_memory_sampled(self, event: ev.MemorySampled, now: float) -> None:
        sampled = self._sampler.on_memory_sampled(event, now)
        self._timers.end_stalled(now)
        limited = [one for one in sampled if one.server.settings.memory_limit is not None]
        if limited:
            self._containment.each(limited, lambda one: self._recycler.review(one, now), now)

    def _on_orphans_found(self, event: ev.OrphansFound, now: float) -> None:
        self._recovery.on_orphans_found(event, now)
        self._state.has_recovered = True
        self._reconfiguration.preload(set(self._state.catalogue.preloaded()), now)

    # --- reading ------------------------------------------------------------------

    def at_once(self, name: str, now: float) -> Server | None:
        """Return the READY server for an Ensure without options; None: feed EnsureRequested."""
        return self._requests.at_once(name, now)

    def offer(self, asked: ev.EnsureRequested, look: Look | None, now: float) -> Offer | LookNeeded:
        """Return what an Ensure would do now, or what has to be looked at first.

        look: what was found for the last LookNeeded; None: nothing was looked at.
        """
        return self._offering.offer(asked, look, now)

    def next_deadline(self) -> float:
        """Return when TimeReached is due; FOREVER if nothing is."""
        try:
            dues = [self._state.deadlines.next(), self._sampler.next_at()]
            if not self._state.is_closing:
                dues += [self._standby.due_at, self._home.due_at]
            return min(dues)
        except Exception as error:  # noqa: BLE001 - logged with the next event
            self._unreturned = [LogInternalError("", "the next deadline", error)]
            return self._state.now + RETRY_PAUSE_S

    def page(self, after: ServerId | None, size: int) -> list[Server]:
        """Return at most `size` servers in the order of their ids, after `after`."""
        return self._state.table.page(after, size)

    @property
    def catalogue(self) -> Catalogue:
        """The settings of each model, as configured at present."""
        return self._state.catalogue

    @property
    def limits(self) -> Limits:
        """The limits of the pool as a whole."""
        return self._state.limits

    def ready(self) -> list[Server]:
        """Return the READY servers, those that are READY longest first."""
        return [row.server for row in self._state.table.of(Phase.READY)]

    def get(self, model: str) -> Server | None:
        """Return the current server of `model`, or None."""
        row = self._state.table.current(model)
        return row.server if row is not None else None

    def server(self, server_id: ServerId) -> Server | None:
        """Return the server with an id, or None."""
        row = self._state.table.find(server_id)
        return row.server if row is not None else None

    def describe(self, name: str, now: float) -> Description:
        """Return all that is known about a model. Raises ModelUnknown."""
        return self._describer.describe(name, now)

    def preemption_order(self, now: float) -> tuple[InLine, ...]:
        """Return the servers that may be preempted, the next one first."""
        return self._describer.order(now)

    def busy(self) -> frozenset[ServerId]:
        """Return the servers that were in use when they were last checked."""
        return frozenset(row.server.id for row in self._state.table if row.busy_until is not None)

    def known(self, model: str) -> Server | LastRun | None:
        """Return the newest server of `model`, or its last run, or None."""
        return self._state.known(model)

    def story(self, model: str) -> tuple[Decision, ...]:
        """Return the last decisions about a model, the oldest first."""
        return self._state.stories.of(model)

    def totals(self, now: float) -> Totals:
        """Return the numbers of servers and waiting calls, and the memory of pool and machine."""
        table, last = self._state.table, self._sampler.last
        return Totals(
            {phase: table.count({phase}) for phase in Phase},
            len(table),
            len(self._state.waiters),
            memory_budget=self._state.limits.memory_budget,
            memory_reserved=table.reserved,
            memory_available=last.available if last else 0,
            memory_total=last.total if last else 0,
            memory_pressured=self._sampler.is_pressed,
            memory_current=self._sampler.is_current(now),
            waiting_by_model=self._state.waiters.counts(),
        )

    def resolve(self, name: str) -> str:
        """Return the model that a name or alias stands for."""
        return self._state.catalogue.resolve(name)

    def settings_for(self, name: str, runtime_model: str) -> tuple[str, Settings]:
        """Return the model that a name or alias stands for, and the settings to run it with.

        Raises:
            ModelUnknown: the catalogue does not allow the model, or not as `runtime_model`.
        """
        catalogue = self._state.catalogue
        model = catalogue.resolve(name)
        if not catalogue.serves(model, runtime_model):
            raise self._callers.not_served(model, runtime_model)
        named = runtime_model or self._callers.named_before(model)
        return model, self._state.settings_for(model, named)

    def is_listed(self, model: str) -> bool:
        """Return whether the catalogue lists a model."""
        return model in self._state.catalogue.models

    def page_of_models(
        self, after: str | None, size: int | None, cached: Iterable[str] | None
    ) -> list[Entry]:
        """Return at most `size` known models in alphabetical order, without estimates.

        after: begin with the first name that follows this one; None: from the beginning.
        cached: the ids of the models in the Hugging Face cache; None: only listed models are
        returned, with it all that are known.
        """
        servers = [row.server for row in self._state.table]
        found = None
        if cached is not None:
            named, pins = self._state.namings.all(), self._state.pins.all()
            pinned = {model: "" for model, is_pinned in pins.items() if is_pinned}
            found = Found({**pinned, **named}, cached)
        page = page_of_models(self._state.catalogue, servers, found, after, size)
        return [self._as_pinned(entry) for entry in page]

    def _as_pinned(self, entry: Entry) -> Entry:
        return replace(entry, settings=self._state.with_pin(entry.model, entry.settings))
