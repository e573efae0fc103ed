"""What is made up for when the handling of an event broke.

The model that the event was about is put right (`mending.py`), whoever asked is told, and what
the event was for beyond one model (time, a shutdown, a recovery) is done in the plainest way,
so that no deadline, no process and no caller of another model is lost with it.
"""

from pool_service.core import steps
from pool_service.core.asking import Asking
from pool_service.core.catalogue import Catalogue
from pool_service.core.evictions import Eviction
from pool_service.core.failures import leaving, shutting_down
from pool_service.core.limits import Limits
from pool_service.core.mending import told
from pool_service.core.placing import SURVEY
from pool_service.core.requests import (
    INTERNAL,
    CallerEvent,
    EnsureRequested,
    EvictRequested,
    ForgetRequested,
    HoldRequested,
    Hurried,
    LeaveRequested,
    RecoveryBegan,
    ReloadRequested,
    ShutdownRequested,
    StraysFound,
    Surveyed,
    TimeReached,
)
from pool_service.core.salvage import PAUSE_SECONDS
from pool_service.core.steps import ServerEvent
from pool_service.core.types import Cause

Event = CallerEvent | ServerEvent

_ASKED = EnsureRequested | HoldRequested | EvictRequested | ReloadRequested | ForgetRequested
"""What somebody waits to be answered, beside a shutdown, which is answered when it is done."""


class MakingUp(Asking):
    """Contains what an event broke."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._leaving = False

    def _event_broke(self, event: Event, error: Exception, now: float) -> None:
        """Put its model right, tell whoever asked, and do what else it was for."""
        ticket = getattr(event, "ticket", INTERNAL)
        self._waiting.leave(ticket)
        self._holds.end(ticket)
        name = self._name_in(event)
        self._break_off(name, error, now)
        self._make_up_for(event, error, now)
        if isinstance(event, EvictRequested):
            for eviction in self._evictions.with_ticket(ticket):
                self._give_up_eviction(eviction)
        if isinstance(event, _ASKED) and not self._evictions.with_ticket(ticket):
            self._tell_once(ticket, told(name))

    def _name_in(self, event: Event) -> str:
        """The name of the server that it is about; empty if it is about more than one, or none."""
        if isinstance(event, ServerEvent):
            return self._name_of_process(event)
        match event:
            case EnsureRequested() | HoldRequested() | ForgetRequested():
                return self._catalogue.resolve(event.model)
            case EvictRequested(_, str(model), _):
                return self._catalogue.resolve(model)
            case _:
                return ""

    def _name_of_process(self, event: ServerEvent) -> str:
        """Return the name under which the server of an event goes now.

        One that waits for its turn has the generation of the last process yet, which may go on
        aside.
        """
        server = self._roster.get(event.model)
        waits = server is not None and server.generation == event.generation
        if waits and _is_of_queued(event):
            return event.model
        return self._beside.get((event.model, event.generation), event.model)

    def _make_up_for(self, event: Event, error: Exception, now: float) -> None:
        match event:
            case TimeReached():
                self._each_due(error, now)
            case Surveyed():
                self._surveying, self._surveyed_at = False, now
                self._unmeasured.clear()
            case RecoveryBegan():
                self._recover_anyway(event, error, now)
            case StraysFound():
                self._is_recovered = True
            case _:
                self._end_anyway(event, error, now)

    def _end_anyway(self, event: Event, error: Exception, now: float) -> None:
        match event:
            case ShutdownRequested(ticket):
                self._shut_down_anyway(ticket, error, now)
            case LeaveRequested():
                self._leave_anyway()
            case Hurried():
                self._in_haste = True
            case _:
                pass

    def _leave_anyway(self) -> None:
        self._closing = self._leaving = True
        for model in {*self._waiting.models(), *self._holds.models()}:
            self._let_go(model, shutting_down(model))
        for eviction in self._evictions.take():
            self._tell_once(eviction.ticket, leaving())

    def _each_due(self, error: Exception, now: float) -> None:
        """Break off the transition of each server that was due; none is due again at once."""
        for name in self._deadlines.pop_due(now):
            if name == SURVEY:
                self._deadlines.set(SURVEY, now + PAUSE_SECONDS)
            else:
                self._break_off(name, error, now)

    def _shut_down_anyway(self, ticket: int, error: Exception, now: float) -> None:
        self._closing = True
        begun = self._evictions.with_ticket(ticket)
        everything = next(iter(begun), Eviction(ticket, force=True, cause=Cause.SHUTDOWN))
        servers = [] if self._leaving else list(self._roster)
        for server in servers:
            if everything not in self._evictions.of(server.model):
                self._evictions.add(everything, server.model)
        for server in servers:
            self._break_off(server.model, error, now)
        if not servers:
            self._out.append(everything.answer)

    def _recover_anyway(self, event: RecoveryBegan, error: Exception, now: float) -> None:
        self._unsettled = self._unsettled or set()
        for past in event.remembered.pasts:
            self._pasts.setdefault(past.model, past)
        for server in event.remembered.servers:
            if self._roster.get(server.model) is None:
                self._take_back_broken(server, error, now)

    def _give_up_eviction(self, eviction: Eviction) -> None:
        """Let an eviction wait on for what is going, and for nothing else."""
        for model in list(eviction.pending):
            if not self._goes(model):
                self._leave_unevicted(eviction, model, told(model))

    def _follow_up_broke(self, error: Exception, now: float) -> None:
        """Try again what follows each event, with the next event, which is soon."""
        self._break_off("", error, now)
        if not self._surveying:
            self._deadlines.set(SURVEY, now + PAUSE_SECONDS)


def _is_of_queued(event: ServerEvent) -> bool:
    """Return whether an event can only be about a model that waits for its turn."""
    if isinstance(event, steps.StepBroke):
        return event.command in {"Appraise", "Fetch"}
    return isinstance(event, steps.Appraised | steps.Fetching | steps.Fetched | steps.NotAppraised)
