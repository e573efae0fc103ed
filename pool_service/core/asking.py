"""What callers want: a model READY once (Ensure), or for as long as they hold it (Hold)."""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.errors import PoolError
from pool_service.core.failures import (
    is_crash,
    queue_full,
    runtime_model_conflict,
    shutting_down,
    still_barred,
)
from pool_service.core.recovery import Recovery
from pool_service.core.requests import (
    Answer,
    Ensured,
    EnsureRequested,
    ForgetRequested,
    HoldEnded,
    HoldRequested,
    WaiterLeft,
)
from pool_service.core.types import Phase, Server, Settings

USE_RESOLUTION = 0.05
"""Seconds. Uses that follow each other more closely count as one, which spares a busy
model the writing of a new state for each call."""

Asked = EnsureRequested | HoldRequested


class Asking(Recovery):
    """Answers at once, or lets wait."""

    def at_once(self, name: str, now: float) -> Server | None:
        """What an Ensure without any wish gets, if handing it out changes nothing.

        It spares a busy model the event: the event would be answered with the same server.
        """
        model = self._catalogue.resolve(name)
        server = self._roster.get(model)
        if server is None or server.phase is not Phase.READY or server.failure is not None:
            return None
        if now - server.last_used_at >= USE_RESOLUTION:
            return None
        if not self._catalogue.serves(model, server.settings.named_by_caller):
            return None
        # What runs beside a model's server has a name that is nobody's to ask for.
        if self._closing or server.serves or model in self._marked or model in self._claims:
            return None
        return server

    def _ensure_requested(self, event: EnsureRequested, now: float) -> None:
        model = self._catalogue.resolve(event.model)
        server = self._roster.get(model)
        refusal = self._refusal(model, event, server, now)
        if refusal is not None:
            self._answer(event.ticket, refusal)
        elif server is not None and self._is_there(server):
            self._hand_out(server, event, now)
        else:
            self._wait(model, event, server, now)

    def _hold_requested(self, event: HoldRequested, now: float) -> None:
        model = self._catalogue.resolve(event.model)
        server = self._roster.get(model)
        refusal = self._refusal(model, event, server, now)
        if refusal is not None:
            self._answer(event.ticket, refusal)
            return
        self._holds.add(model, event)
        if server is not None and self._is_there(server):
            self._marked.discard(model)
            if event.runtime_model:
                self._note_naming(model, event.runtime_model)
            self._touch(model, now)
            self._put(life.used(server, event.keep_alive, now), of_holds=True)
        else:
            self._wait(model, event, server, now)
            self._put(self._roster[model], of_holds=True)

    def _hold_ended(self, event: HoldEnded, now: float) -> None:
        self._waiting.leave(event.ticket)
        model = self._holds.end(event.ticket)
        server = self._roster.get(model) if model is not None else None
        if server is None:
            return
        last = not self._holds.count(server.model)
        if server.phase is Phase.READY and last:
            server = life.released(server, now)
        self._put(server, of_holds=True)
        self._give_up_unwanted(server.model, now)

    # --- refusing -----------------------------------------------------------------------

    def _refusal(
        self, model: str, event: Asked, server: Server | None, now: float
    ) -> PoolError | None:
        """Why it is not even waited for."""
        if self._closing:
            return shutting_down(event.model)
        settled = self._settled(model, server)
        wanted = event.runtime_model or (settled.named_by_caller if settled else "")
        if not self._catalogue.serves(model, wanted):
            return self._not_served(model, wanted)
        return (
            self._conflict(model, event, server)
            or self._remembered_failure(model, event, server, now)
            or self._no_place(model, server)
        )

    def _conflict(self, model: str, event: Asked, server: Server | None) -> PoolError | None:
        """Whether what runs, or what the next generation will run, is something else."""
        settings = self._settled(model, server)
        if not event.runtime_model or settings is None:
            return None
        if settings.runtime_model == event.runtime_model:
            return None
        return runtime_model_conflict(model, settings.runtime_model, event.runtime_model)

    def _remembered_failure(
        self, model: str, event: Asked, server: Server | None, now: float
    ) -> PoolError | None:
        """What is still known of the last start, so that a herd does not cost a process each."""
        wanted = self._wait_of(model, event, self._runtime_model_meant(model, server)).settings
        if server is None:
            return self._refusals.find(model, wanted.runtime_model, now)
        if server.failure is None or now >= server.retry_at:
            return None
        if wanted.runtime_model != server.settings.runtime_model:
            return None
        return still_barred(server.failure, server.retry_at, now)

    def _no_place(self, model: str, server: Server | None) -> PoolError | None:
        """Whether it would have to join a queue that is as long as it may be."""
        comes_new = server is None or server.phase is Phase.FAILED
        if comes_new and len(self._queue) >= self._limits.queue_limit:
            return queue_full(model, self._limits)
        return None

    # --- answering ----------------------------------------------------------------------

    def _is_there(self, server: Server) -> bool:
        """Whether it can be handed out."""
        return server.phase is Phase.READY and not self._is_going(server)

    def _is_going(self, server: Server) -> bool:
        """Whether only a look stands before its end: an eviction marked it, or it is claimed."""
        model = server.model
        return model in self._claims or (model in self._marked and bool(self._evictions.of(model)))

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

    def _hand_out(self, server: Server, event: EnsureRequested, now: float) -> None:
        # Who gets it now may ask it after the look that is under way.
        self._marked.discard(server.model)
        if event.runtime_model:
            self._note_naming(server.model, event.runtime_model)
        if event.keep_alive is not None or now - server.last_used_at >= USE_RESOLUTION:
            server = life.used(server, event.keep_alive, now)
            self._touch(server.model, now)
            self._roster.put(server)
            if server.model not in self._checking:
                self._deadlines.hasten(server.model, self._due(server))
        self._answer(event.ticket, Ensured(server, started=False))

    def _wait(self, model: str, event: Asked, server: Server | None, now: float) -> None:
        settled = self._settled(model, server)
        wait = self._wait_of(model, event, self._runtime_model_meant(model, server))
        if settled is not None:
            wait = replace(wait, settings=settled, starts=False)
        self._waiting.add(model, wait)
        if server is None:
            self._enqueue(model, now)
        elif server.phase is Phase.FAILED:
            same = wait.settings.runtime_model == server.settings.runtime_model
            if same and now < server.retry_at:
                self._put(life.backing_off(server, wait.settings, server.retry_at))
            else:
                self._enqueue(model, now)

    def _waiter_left(self, event: WaiterLeft, now: float) -> None:
        model = self._waiting.leave(event.ticket)
        if model is not None:
            self._give_up_unwanted(model, now)

    def _runtime_model_meant(self, model: str, server: Server | None) -> str:
        """Return the runtime model that a caller means who names none; nothing: the model's own.

        What died is repaired as what it was; else it is what was named before.
        """
        died = server is not None and server.phase is Phase.FAILED and is_crash(server)
        if server is not None and died and self._is_served(server):
            return server.settings.named_by_caller
        return self._named_before(model)

    def _forget_requested(self, event: ForgetRequested, _now: float) -> None:
        model = self._catalogue.resolve(event.model)
        self._out.append(Answer(event.ticket, self._forget_namings([model])))
