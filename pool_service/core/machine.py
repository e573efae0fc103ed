"""The whole pool as a state machine: events in, commands out, no I/O.

`Machine.handle(event, now)` is the only way in. It changes the state and returns
what is to be done, in order. The driver (`pool.py`) carries it out and feeds what
comes of it back as events. This file holds evictions; the rest is in the classes below it
(`design.md` lists them), and how one server changes in `lifecycle.py`.

Invariants (the tests assert them after every event)
- A model has at most one server under its name and one beside it, a server one process.
- Everybody who waits for a model is answered by the transition that settles it,
  and exactly once; a server that nobody waits for and that has not begun to
  start is dropped.
- At most `max_starts` starts are under way.
- A READY server that is held or has requests in flight is stopped only by force or
  shutdown, and nothing is admitted beyond the budget.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.books import Command
from pool_service.core.catalogue import Catalogue, Entry
from pool_service.core.evictions import Eviction
from pool_service.core.failures import (
    evicted,
    leaving,
    shutting_down,
)
from pool_service.core.found import found
from pool_service.core.limits import Limits
from pool_service.core.making_up import MakingUp
from pool_service.core.requests import (
    CallerEvent,
    EnsureRequested,
    Every,
    EvictRequested,
    ForgetRequested,
    HoldEnded,
    HoldRequested,
    Hurried,
    LeaveRequested,
    RecoveryBegan,
    ReloadRequested,
    ShutdownRequested,
    StraysFound,
    Surveyed,
    TimeReached,
    Totals,
    WaiterLeft,
)
from pool_service.core.types import Cause, Phase, Server, Settings

Event = CallerEvent | steps.ServerEvent


class Machine(MakingUp):
    """The state of the pool, and the only code that changes it."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(catalogue, limits)
        self._caller_handlers: dict[type, Callable[[Any, float], None]] = {
            EnsureRequested: self._ensure_requested,
            WaiterLeft: self._waiter_left,
            HoldRequested: self._hold_requested,
            HoldEnded: self._hold_ended,
            ReloadRequested: self._reload_requested,
            ForgetRequested: self._forget_requested,
            Surveyed: self._surveyed,
            EvictRequested: self._evict_requested,
            ShutdownRequested: self._shutdown_requested,
            LeaveRequested: self._leave_requested,
            RecoveryBegan: self._recovery_began,
            StraysFound: self._strays_found,
            Hurried: self._hurried,
            TimeReached: self._time_reached,
        }
        self._server_handlers: dict[type, Callable[[Server, Any, float], None]] = {
            steps.Appraised: self._appraised,
            steps.Fetching: self._fetching,
            steps.Fetched: self._fetched,
            steps.NotAppraised: self._not_appraised,
            steps.Prepared: self._prepared,
            steps.Spawned: self._spawned,
            steps.NotStarted: self._not_started,
            steps.BecameReady: self._became_ready,
            steps.ListenerLost: self._listener_lost,
            steps.UseReported: self._use_reported,
            steps.Exited: self._exited,
            steps.Swept: self._swept,
            steps.StepBroke: self._step_broke,
            steps.Adopted: self._adopted,
            steps.PulseTaken: self._pulse_taken,
            steps.LogRead: self._log_read,
        }

    def handle(self, event: Event, now: float) -> list[Command]:
        """Change the state by what happened; return what is to be done, in order."""
        self._out = []
        self._event = event
        handler = self._caller_handlers.get(type(event))
        try:
            if handler is not None:
                handler(event, now)
            else:
                self._handle_server_event(cast("steps.ServerEvent", event), now)
        except Exception as error:  # noqa: BLE001  # a mistake of ours costs one model
            self._event_broke(event, error, now)
        self._event = None
        for follow_up in (self._call_off_successors, self._admit, self._tell_recovered):
            try:
                follow_up(now)
            except Exception as error:  # noqa: BLE001  # the others are still to be done
                self._follow_up_broke(error, now)
        if self._is_damaged:
            self._audit(now)
        return self._out

    def _handle_server_event(self, event: steps.ServerEvent, now: float) -> None:
        server = self._meant_by(event)
        if server is not None:
            self._server_handlers[type(event)](server, event, now)

    def _meant_by(self, event: steps.ServerEvent) -> Server | None:
        """Return the server that an event is about."""
        server = self._roster.get(self._name_in(event))
        return server if server is not None and server.generation == event.generation else None

    # --- reading ------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When TimeReached is due; FOREVER if nothing is."""
        return self._deadlines.next()

    def page(self, after: str | None, size: int) -> list[Server]:
        """At most `size` servers in the order of their models, after `after`."""
        return self._roster.page(after, size)

    @property
    def limits(self) -> Limits:
        """The limits of the pool as a whole."""
        return self._limits

    def ready(self) -> list[Server]:
        """The READY servers, the longest first."""
        return self._roster.of(Phase.READY)

    def get(self, model: str) -> Server | None:
        """The server of `model`, if there is one."""
        return self._roster.get(model)

    def server_of(self, model: str, generation: int) -> Server | None:
        """The server whose process is, or was, of this generation of `model`."""
        return self._server_of(model, generation)

    def totals(self) -> Totals:
        """Counts over the whole pool."""
        by_phase = {phase: self._roster.count({phase}) for phase in Phase}
        return Totals(
            by_phase,
            len(self._roster),
            len(self._waiting),
            memory_budget=self._limits.memory_budget,
            memory_reserved=self._roster.reserved,
            memory_available=self._survey.available if self._survey else 0,
            memory_total=self._survey.total if self._survey else 0,
            memory_pressured=self._is_pressed,
        )

    def resolve(self, name: str) -> str:
        """The model that a caller's name means now."""
        return self._catalogue.resolve(name)

    def settings_for(self, name: str, runtime_model: str) -> tuple[str, Settings]:
        """The model that a caller's name means, and how it is run.

        Raises ModelUnknown.
        """
        model = self._catalogue.resolve(name)
        if not self._catalogue.serves(model, runtime_model):
            raise self._not_served(model, runtime_model)
        return model, self._catalogue.settings_for(
            model, runtime_model or self._named_before(model)
        )

    def listed(self) -> list[Entry]:
        """What the catalogue lists, in the order of the models, not appraised."""
        return self._catalogue.entries()

    def found(self, cached: Iterable[str]) -> list[Entry]:
        """Return what is listed and what else is known; cached: in the cache of the hub."""
        return found(self._catalogue, self._roster, self._namings.all(), cached)

    # --- evicting -----------------------------------------------------------------

    def _evict_requested(self, event: EvictRequested, now: float) -> None:
        if self._leaving:
            self._answer(event.ticket, leaving())
            return
        eviction = Eviction(
            event.ticket,
            force=event.force,
            cause=Cause.EVICTED,
            names_one=isinstance(event.target, str),
            only_idle=event.target is Every.IDLE,
        )
        self._evict(self._targets(event.target, now, force=event.force), eviction, now)

    def _targets(self, target: str | Every, now: float, *, force: bool) -> list[Server]:
        if isinstance(target, str):
            model = self._catalogue.resolve(target)
            self._refusals.forget(model)
            server = self._roster.get(model)
            # What was replaced and is still in use goes by itself.
            others = [one for one in self._others(model) if force or one.phase is not Phase.READY]
            if server is not None and server.holds and not force:
                return [server]
            return others if server is None else [server, *others]
        if target is Every.ALL:
            self._refusals.forget_all()
            return list(self._roster)
        return [server for server in self._roster if _is_idle(server, now)]

    def _shutdown_requested(self, event: ShutdownRequested, now: float) -> None:
        self._closing = True
        everything = Eviction(event.ticket, force=True, cause=Cause.SHUTDOWN)
        self._evict([] if self._leaving else list(self._roster), everything, now)

    def _leave_requested(self, _event: LeaveRequested, now: float) -> None:
        """What has no process yet ends; nobody waits any longer; the rest runs on."""
        self._closing = self._leaving = True
        for eviction in self._evictions.take():
            self._answer(eviction.ticket, leaving())

        def let_go(server: Server) -> None:
            self._dismiss(server.model, shutting_down(server.model))
            if server.phase in (Phase.QUEUED, Phase.PREPARING):
                self._stop(server, Cause.SHUTDOWN, now)
            elif server.phase is Phase.BACKING_OFF:
                self._give_up(server, now)

        self._each(list(self._roster), let_go, now)

    def _evict(self, servers: list[Server], eviction: Eviction, now: float) -> None:
        """End each; a READY one is looked at first, unless by force."""
        for server in servers:
            self._evictions.add(eviction, server.model)

        def evict(server: Server) -> None:
            if server.holds and not eviction.force:
                self._leave_out(eviction, server, 0)
            elif server.phase is Phase.READY and not eviction.force:
                self._check_use(server)
            else:
                error = shutting_down if self._closing else evicted
                self._dismiss(server.model, error(server.model))
                self._stop(self._roster[server.model], eviction.cause, now)

        self._each(servers, evict, now)
        if not servers:
            self._out.append(eviction.answer)

    def _hurried(self, _event: Hurried, now: float) -> None:
        """What is not STOPPING yet, or has no process yet, is hurried when it comes to that."""
        self._in_haste = True

        def hurry(server: Server) -> None:
            has_process = server.identity is not None and server.model not in self._adopting
            if server.phase is Phase.STOPPING and has_process:
                self._signal(server, life.next_signal(server), now)
            elif server.phase is Phase.SWEEPING and server.identity is not None:
                hurry = steps.HurrySweep(server.named, server.generation, server.identity)
                self._out.append(hurry)

        self._each(self._roster, hurry, now)


def _is_idle(server: Server, now: float) -> bool:
    """Whether it may go as far as is known before it was looked at."""
    wanted = server.holds or server.settings.pinned
    return server.phase is Phase.READY and not wanted and now >= server.resides_until
