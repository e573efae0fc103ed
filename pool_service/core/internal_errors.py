"""Internal errors: commands that failed in the driver, and events whose handling raised.

The server concerned is put right (`error_containment.py`), and the caller answered. The effects of
an event beyond one server (deadlines, a shutdown, a recovery) are then made up for in the simplest
way, so that no deadline, process or caller of another model is lost.
"""

from pool_service.core import lifecycle as life
from pool_service.core.activity import Activity
from pool_service.core.call_error_texts import detaching, shutting_down
from pool_service.core.commands import (
    Adopt,
    AwaitExit,
    AwaitReady,
    CheckActivity,
    CleanUp,
    EstimateMemory,
    Fetch,
    Prepare,
    ProbeServer,
    Spawn,
)
from pool_service.core.error_containment import Containment, internal_error
from pool_service.core.events import (
    CleanedUp,
    CommandFailed,
    DetachRequested,
    EnsureRequested,
    EstimateFailed,
    Event,
    EvictRequested,
    Exited,
    ForgetRequested,
    HoldRequested,
    MemorySampled,
    NotStarted,
    OrphansFound,
    PinRequested,
    RecoveryBegan,
    ReloadRequested,
    ServerEvent,
    ShutdownEscalated,
    ShutdownRequested,
    TimeReached,
)
from pool_service.core.evictions import Eviction
from pool_service.core.idle import IdleChecks
from pool_service.core.internal_error_policy import RETRY_PAUSE_S
from pool_service.core.readiness import ReadyServers
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Cause, Phase, ServerId
from pool_service.core.service_recovery import Recovery
from pool_service.core.state import PoolState
from pool_service.core.stopper import Stopper
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import Diagnosis, ExitReport

_ANSWERED_AT_ONCE = (
    EnsureRequested
    | HoldRequested
    | EvictRequested
    | ReloadRequested
    | ForgetRequested
    | PinRequested
)
"""Requests to answer at once with the error; a shutdown is answered when it is done."""


class FailedCommands:
    """Go on safely with a server after a command for it failed by an internal error."""

    def __init__(
        self,
        state: PoolState,
        stopper: Stopper,
        supervisor: Supervisor,
        idle: IdleChecks,
        ready: ReadyServers,
        scheduler: Scheduler,
        recovery: Recovery,
    ) -> None:
        self._state = state
        self._stopper = stopper
        self._supervisor = supervisor
        self._idle = idle
        self._ready = ready
        self._scheduler = scheduler
        self._recovery = recovery

    def on_command_failed(  # noqa: C901  # a case for each command
        self, row: Row, event: CommandFailed, now: float
    ) -> None:
        """Go on with a server as after the least favourable result of the command that failed."""
        server, server_id, error = row.server, event.server_id, event.error
        match event.command:
            case EstimateMemory() | Fetch():
                self._scheduler.on_estimate_failed(row, EstimateFailed(server_id, error), now)
            case Prepare() | Spawn():
                self._supervisor.on_not_started(row, NotStarted(server_id, error), now)
            case AwaitReady() if server.phase is Phase.STARTING:
                if server.is_current:
                    self._state.fail_waiters(server.model, error)
                self._supervisor.stop(server, Cause.CRASHED, now)
            case Adopt():
                self._recovery.adopt_as_recorded(row, error, now)
            case CheckActivity():
                self._take_as_busy(row, now)
            case ProbeServer() if server.phase is Phase.READY:
                self._state.put_unpublished(life.probe_due(server, self._ready.next_probe(now)))
            case AwaitExit():
                if server.phase is Phase.STARTING and server.is_current:
                    self._state.fail_waiters(server.model, error)
                report = ExitReport(None, None, Diagnosis.CRASHED, str(error))
                self._supervisor.on_exited(row, Exited(server_id, report), now)
            case CleanUp():
                self._supervisor.on_cleaned_up(row, CleanedUp(server_id), now)
            case _:
                pass

    def _take_as_busy(self, row: Row, now: float) -> None:
        """Go on after a failed activity check as with an unknown number of requests."""
        if row.server.phase is Phase.STOPPING:
            self._stopper.on_activity_reported(row, Activity(None), now)
        elif row.server.phase is Phase.READY:
            self._idle.on_activity_reported(row, Activity(None), now)


class FailedEvents:
    """Make up for events whose handling raised."""

    def __init__(
        self,
        state: PoolState,
        containment: Containment,
        sampler: Sampler,
        recovery: Recovery,
    ) -> None:
        self._state = state
        self._containment = containment
        self._sampler = sampler
        self._recovery = recovery

    def make_up_for(self, event: Event, error: Exception, now: float) -> None:
        """Put right the event's server, answer its caller, and make up for its other effects."""
        state, request_id = self._state, getattr(event, "request_id", None)
        if request_id is not None:
            state.waiters.leave(request_id)
            state.holds.end(request_id)
        model, server_id = self._subject(event)
        self._containment.break_off(model, server_id, error, now)
        self._make_up_for_effects(event, error, now)
        if isinstance(event, EvictRequested):
            for eviction in state.evictions.of_request(event.request_id):
                self._leave_out_staying(eviction)
        if isinstance(event, _ANSWERED_AT_ONCE):
            is_under_way = request_id is not None and state.evictions.of_request(request_id)
            # An eviction under way is answered when its last server has ended.
            if not is_under_way:
                self._containment.tell_once(request_id, internal_error(model))

    def _subject(self, event: Event) -> tuple[str, ServerId | None]:
        """Return the model and the server that an event is about; "" and None if about none."""
        if isinstance(event, ServerEvent):
            return event.server_id.model, event.server_id
        catalogue = self._state.catalogue
        match event:
            case EnsureRequested() | HoldRequested() | ForgetRequested() | PinRequested():
                model = catalogue.resolve(event.model)
            case EvictRequested(_, str(target), _):
                model = catalogue.resolve(target)
            case _:
                return "", None
        row = self._state.table.current(model)
        return model, row.server.id if row else None

    def _make_up_for_effects(self, event: Event, error: Exception, now: float) -> None:
        """Make up for the effects of an event beyond one server."""
        match event:
            case TimeReached():
                self._break_off_due(error, now)
            case MemorySampled():
                self._sampler.postpone(now + RETRY_PAUSE_S)
                self._sampler.skip_measuring()
            case RecoveryBegan():
                self._recover(event, error, now)
            case OrphansFound():
                self._state.has_recovered = True
            case ShutdownRequested(request_id):
                self._shut_down(request_id, error, now)
            case DetachRequested():
                self._detach()
            case ShutdownEscalated():
                self._state.is_escalated = True
            case _:
                pass

    def _break_off_due(self, error: Exception, now: float) -> None:
        """Break off the transition of each server that was due; none is due again at once."""
        for server_id in self._state.deadlines.pop_due(now):
            self._containment.break_off(server_id.model, server_id, error, now)
        self._sampler.postpone(now + RETRY_PAUSE_S)

    def _recover(self, event: RecoveryBegan, error: Exception, now: float) -> None:
        state = self._state
        if self._recovery.unsettled is None:
            self._recovery.unsettled = set()
        for past in event.remembered.pasts:
            state.pasts.setdefault(past.model, past)
        for server in event.remembered.servers:
            if state.table.find(server.id) is None:
                self._recovery.take_over_after_error(server, error, now)

    def _shut_down(self, request_id: int, error: Exception, now: float) -> None:
        state = self._state
        state.is_closing = True
        begun = state.evictions.of_request(request_id)
        eviction = next(iter(begun), Eviction(request_id, force=True, cause=Cause.SHUTDOWN))
        ids = [] if state.is_detaching else [row.server.id for row in state.table]
        for server_id in ids:
            if eviction not in state.evictions.of(server_id):
                state.evictions.add(eviction, server_id)
        for server_id in ids:
            self._containment.break_off(server_id.model, server_id, error, now)
        if not ids:
            state.commands.append(eviction.answer)

    def _detach(self) -> None:
        state = self._state
        state.is_closing = state.is_detaching = True
        for model in {*state.waiters.models(), *state.holds.models()}:
            self._containment.fail_callers(model, shutting_down(model))
        for eviction in state.evictions.take():
            self._containment.tell_once(eviction.request_id, detaching())

    def _leave_out_staying(self, eviction: Eviction) -> None:
        """Leave out of an eviction each of its servers that is not ending already."""
        for server_id in list(eviction.pending):
            row = self._state.table.find(server_id)
            if row is None or row.server.phase not in life.LEAVING:
                self._containment.leave_unevicted(
                    eviction, server_id, internal_error(server_id.model)
                )
