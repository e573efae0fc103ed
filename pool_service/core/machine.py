"""The whole pool as a state machine: events in, commands out, no I/O.

`Machine.handle(event, now)` is the only way in. It changes the state and returns
what is to be done, in order. The driver (`pool.py`) carries it out and feeds what
comes of it back as events. This file holds what callers ask; what processes do
is in the classes below it (`recovery.py`, `upkeep.py`, `use.py`, `supervision.py`,
`books.py`), and how one server changes in `lifecycle.py`.

Invariants (the tests assert them after every event)
- A model has at most one server, and a server at most one process.
- Everybody who waits for a model is answered by the transition that settles it,
  and exactly once; a server that nobody waits for and that has not begun to
  start is dropped.
- At most `max_starts` starts are under way.
- A READY server with requests in flight is stopped only by force or shutdown.
"""

from collections.abc import Callable
from typing import Any, cast

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.books import Command
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import PoolError, RuntimeModelConflict
from pool_service.core.evictions import Eviction
from pool_service.core.failures import (
    evicted,
    is_crash,
    leaving,
    runtime_model_conflict,
    shutting_down,
    still_barred,
)
from pool_service.core.recovery import Recovery
from pool_service.core.requests import (
    CallerEvent,
    Ensured,
    EnsureRequested,
    Every,
    EvictRequested,
    Hurried,
    LeaveRequested,
    RecoveryBegan,
    ShutdownRequested,
    StraysFound,
    TimeReached,
    Wait,
    WaiterLeft,
)
from pool_service.core.types import Cause, Limits, Phase, Server, Settings, Totals

USE_RESOLUTION = 0.05
"""Seconds. Uses that follow each other more closely count as one, which spares a busy
model the writing of a new state for each call."""

Event = CallerEvent | steps.ServerEvent


class Machine(Recovery):
    """The state of the pool, and the only code that changes it."""

    def __init__(self, catalogue: Catalogue, limits: Limits) -> None:
        super().__init__(limits)
        self._catalogue = catalogue
        self._closing = False
        self._leaving = False
        self._caller_handlers: dict[type, Callable[[Any, float], None]] = {
            EnsureRequested: self._ensure_requested,
            WaiterLeft: self._waiter_left,
            EvictRequested: self._evict_requested,
            ShutdownRequested: self._shutdown_requested,
            LeaveRequested: self._leave_requested,
            RecoveryBegan: self._recovery_began,
            StraysFound: self._strays_found,
            Hurried: self._hurried,
            TimeReached: self._time_reached,
        }
        self._server_handlers: dict[type, Callable[[Server, Any, float], None]] = {
            steps.Prepared: self._prepared,
            steps.Spawned: self._spawned,
            steps.NotStarted: self._not_started,
            steps.BecameReady: self._became_ready,
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
        handler = self._caller_handlers.get(type(event))
        if handler is not None:
            handler(event, now)
        else:
            self._handle_server_event(cast("steps.ServerEvent", event), now)
        self._admit()
        self._tell_recovered()
        return self._out

    def _handle_server_event(self, event: steps.ServerEvent, now: float) -> None:
        server = self._roster.get(event.model)
        if server is not None and server.generation == event.generation:
            self._server_handlers[type(event)](server, event, now)

    # --- reading ------------------------------------------------------------------

    def next_deadline(self) -> float:
        """When TimeReached is due; FOREVER if nothing is."""
        return self._deadlines.next()

    def page(self, after: str | None, size: int) -> list[Server]:
        """At most `size` servers in the order of their models, after `after`."""
        return self._roster.page(after, size)

    def get(self, model: str) -> Server | None:
        """The server of `model`, if there is one."""
        return self._roster.get(model)

    def totals(self) -> Totals:
        """Counts over the whole pool."""
        by_phase = {phase: self._roster.count({phase}) for phase in Phase}
        return Totals(by_phase, len(self._roster), len(self._waiting))

    # --- ensuring -----------------------------------------------------------------

    def _ensure_requested(self, event: EnsureRequested, now: float) -> None:
        if self._closing:
            self._answer(event.ticket, shutting_down(event.model))
            return
        server = self._roster.get(event.model)
        refusal = self._conflict(event, server) or self._remembered_failure(event, server, now)
        if refusal is not None:
            self._answer(event.ticket, refusal)
        elif server is not None and server.phase is Phase.READY and not self._is_going(server):
            self._hand_out(server, event, now)
        else:
            self._wait(event, server, now)

    def _conflict(
        self, event: EnsureRequested, server: Server | None
    ) -> RuntimeModelConflict | None:
        """Whether what runs, or what the next generation will run, is something else."""
        settings = self._settled(event.model, server)
        if not event.runtime_model or settings is None:
            return None
        if settings.runtime_model == event.runtime_model:
            return None
        return runtime_model_conflict(event.model, settings.runtime_model, event.runtime_model)

    def _settled(self, model: str, server: Server | None) -> Settings | None:
        """The settings of the start that a caller would now join; None if there is none.

        Whoever joins takes them over, so that all who wait for a model agree on them
        even after the one who chose them has left.
        """
        if server is None or server.phase is Phase.FAILED:
            return None
        if server.phase not in life.LEAVING and not self._is_going(server):
            return server.settings
        first = self._waiting.first(model)
        return first.settings if first else None

    def _is_going(self, server: Server) -> bool:
        """Whether an eviction has marked it, so that only a look stands before its end."""
        return server.model in self._marked and bool(self._evictions.of(server.model))

    def _remembered_failure(
        self, event: EnsureRequested, server: Server | None, now: float
    ) -> PoolError | None:
        """What is still known of the last start, so that a herd does not cost a process each."""
        if server is None or server.failure is None or now >= server.retry_at:
            return None
        if self._wanted(event, server).runtime_model != server.settings.runtime_model:
            return None
        return still_barred(server.failure, server.retry_at, now)

    def _wanted(self, event: EnsureRequested, server: Server | None) -> Settings:
        """What a new start would run: what died is repaired as what it was."""
        died = server is not None and server.phase is Phase.FAILED and is_crash(server)
        was = server.settings.runtime_model if server is not None and died else ""
        return self._catalogue.settings_for(event.model, event.runtime_model or was)

    def _hand_out(self, server: Server, event: EnsureRequested, now: float) -> None:
        # Who gets it now may ask it after the look that is under way.
        self._marked.discard(server.model)
        if event.keep_alive is not None or now - server.last_used_at >= USE_RESOLUTION:
            server = life.used(server, event.keep_alive, now)
            self._roster.put(server)
            if event.model not in self._checking:
                self._deadlines.hasten(event.model, life.deadline(server))
        self._answer(event.ticket, Ensured(server, started=False))

    def _wait(self, event: EnsureRequested, server: Server | None, now: float) -> None:
        settled = self._settled(event.model, server)
        settings = settled or self._wanted(event, server)
        starts = settled is None
        wait = Wait(event.ticket, event.runtime_model, settings, event.keep_alive, starts=starts)
        self._waiting.add(event.model, wait)
        if server is None:
            self._enqueue(event.model, now)
        elif server.phase is Phase.FAILED:
            same = settings.runtime_model == server.settings.runtime_model
            if same and now < server.retry_at:
                self._put(life.backing_off(server, settings, server.retry_at))
            else:
                self._enqueue(event.model, now)

    def _waiter_left(self, event: WaiterLeft, now: float) -> None:
        """A start that has not begun is given up with the last who wants it."""
        self._waiting.leave(event.model, event.ticket)
        server = self._roster.get(event.model)
        if server is None or self._waiting.first(event.model) is not None:
            return
        if server.phase is Phase.QUEUED:
            self._drop(server)
        elif server.phase is Phase.BACKING_OFF:
            self._give_up(server, now)

    def _give_up(self, server: Server, now: float) -> None:
        """Nobody waits for its next start any more; how it died stays known."""
        self._put_failed(server, server.detail, now, max(server.retry_at - now, 0.0), None)

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
        self._evict(self._targets(event.target, now), eviction, now)

    def _targets(self, target: str | Every, now: float) -> list[Server]:
        if isinstance(target, str):
            server = self._roster.get(target)
            return [] if server is None else [server]
        if target is Every.ALL:
            return list(self._roster)
        return [s for s in self._roster if s.phase is Phase.READY and now >= s.resides_until]

    def _shutdown_requested(self, event: ShutdownRequested, now: float) -> None:
        self._closing = True
        everything = Eviction(event.ticket, force=True, cause=Cause.SHUTDOWN)
        self._evict([] if self._leaving else list(self._roster), everything, now)

    def _leave_requested(self, _event: LeaveRequested, now: float) -> None:
        """What has no process yet ends; nobody waits any longer; the rest runs on."""
        self._closing = self._leaving = True
        for eviction in self._evictions.take():
            self._answer(eviction.ticket, leaving())
        for server in list(self._roster):
            self._refuse(server.model, shutting_down(server.model))
            if server.phase in (Phase.QUEUED, Phase.PREPARING):
                self._stop(server, Cause.SHUTDOWN, now)
            elif server.phase is Phase.BACKING_OFF:
                self._give_up(server, now)

    def _evict(self, servers: list[Server], eviction: Eviction, now: float) -> None:
        """End each; a READY one is looked at first, unless by force."""
        for server in servers:
            self._evictions.add(eviction, server.model)
        for server in servers:
            if server.phase is Phase.READY and not eviction.force:
                self._check_use(server)
                continue
            error = shutting_down if self._closing else evicted
            self._refuse(server.model, error(server.model))
            self._stop(server, eviction.cause, now)
        if not servers:
            self._out.append(eviction.answer)

    def _hurried(self, _event: Hurried, now: float) -> None:
        """What is not STOPPING yet, or has no process yet, is hurried when it comes to that."""
        self._in_haste = True
        for server in self._roster:
            has_process = server.identity is not None and server.model not in self._adopting
            if server.phase is Phase.STOPPING and has_process:
                self._signal(server, life.next_signal(server), now)
