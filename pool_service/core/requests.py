"""What callers want: a model READY once (Ensure), or for as long as they hold it (Hold)."""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.callers import Asked, Callers
from pool_service.core.commands import Answer
from pool_service.core.errors import PoolError
from pool_service.core.events import (
    EnsureRequested,
    ForgetRequested,
    HoldEnded,
    HoldRequested,
    WaiterLeft,
)
from pool_service.core.failures import (
    queue_full,
    runtime_model_conflict,
    shutting_down,
    still_barred,
)
from pool_service.core.restart import is_crash
from pool_service.core.results import Ensured
from pool_service.core.server import Phase, Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Record
from pool_service.core.types import Settings

USE_RESOLUTION_S = 0.05
"""Uses that follow each other more closely count as one, which spares a busy model the writing
of a new state for each call."""


class Requests:
    """Answer requests at once, or let them wait."""

    def __init__(self, state: PoolState, callers: Callers, supervisor: Supervisor) -> None:
        self._state = state
        self._callers = callers
        self._supervisor = supervisor

    def at_once(self, name: str, now: float) -> Server | None:
        """Return the server of an Ensure without any wish, if handing it out changes nothing.

        It spares a busy model the event: the event would be answered with the same server.
        """
        state = self._state
        model = state.catalogue.resolve(name)
        record = state.table.current(model)
        if record is None or state.is_closing or not self._is_there(record):
            return None
        server = record.server
        if record.is_cordoned or now - server.last_used_at >= USE_RESOLUTION_S:
            return None
        if not state.catalogue.serves(model, server.settings.named_by_caller):
            return None
        return server

    def ensure(self, event: EnsureRequested, now: float) -> None:
        """Answer an Ensure with a READY server or a refusal, or let it wait."""
        model = self._state.catalogue.resolve(event.model)
        record = self._state.table.current(model)
        refusal = self._refusal(model, event, record, now)
        if refusal is not None:
            self._state.answer(event.ticket, refusal)
        elif record is not None and self._is_there(record):
            self._hand_out(record, event, now)
        else:
            self._wait(model, event, record, now)

    def hold(self, event: HoldRequested, now: float) -> None:
        """Begin a hold, and a start if the model is not READY; or refuse it."""
        state = self._state
        model = state.catalogue.resolve(event.model)
        record = state.table.current(model)
        refusal = self._refusal(model, event, record, now)
        if refusal is not None:
            state.answer(event.ticket, refusal)
            return
        state.holds.add(model, event)
        if record is not None and self._is_there(record):
            record.is_cordoned = False
            if event.runtime_model:
                state.note_naming(model, event.runtime_model)
            state.touch(model, now)
            state.put(life.used(record.server, event.keep_alive, now), of_holds=True)
            return
        self._wait(model, event, record, now)
        waiting = state.table.current(model)
        assert waiting is not None
        state.put(waiting.server, of_holds=True)

    def hold_ended(self, event: HoldEnded, now: float) -> None:
        """End a hold; nothing if it ended before."""
        state = self._state
        state.waiters.leave(event.ticket)
        model = state.holds.end(event.ticket)
        record = state.table.current(model) if model is not None else None
        if record is None:
            return
        server = record.server
        if server.phase is Phase.READY and not state.holds.count(server.model):
            server = life.released(server, now)
        state.put(server, of_holds=True)
        self._supervisor.give_up_unwanted(server.model, now)

    def waiter_left(self, event: WaiterLeft, now: float) -> None:
        """Let a caller wait no longer."""
        model = self._state.waiters.leave(event.ticket)
        if model is not None:
            self._supervisor.give_up_unwanted(model, now)

    def forget(self, event: ForgetRequested) -> None:
        """Forget which runtime model was named for a model, and answer with that."""
        model = self._state.catalogue.resolve(event.model)
        self._state.commands.append(Answer(event.ticket, self._state.forget_namings([model])))

    # --- refusing -----------------------------------------------------------------------

    def _refusal(
        self, model: str, event: Asked, record: Record | None, now: float
    ) -> PoolError | None:
        """Return why a request is refused at once, or None."""
        state = self._state
        if state.is_closing:
            return shutting_down(event.model)
        settled = self._settled(model, record)
        wanted = event.runtime_model or (settled.named_by_caller if settled else "")
        if not state.catalogue.serves(model, wanted):
            return self._callers.not_served(model, wanted)
        if event.runtime_model and settled and settled.runtime_model != event.runtime_model:
            return runtime_model_conflict(model, settled.runtime_model, event.runtime_model)
        return self._remembered_failure(model, event, record, now) or self._no_place(model, record)

    def _remembered_failure(
        self, model: str, event: Asked, record: Record | None, now: float
    ) -> PoolError | None:
        """Return how the last start failed, so that a herd does not cost a process each."""
        meant = self._runtime_model_meant(model)
        wanted = self._callers.waiter(model, event, meant).settings.runtime_model
        last = self._last(model)
        is_same = last is not None and wanted == last.settings.runtime_model
        if last is not None and is_same and last.failure is not None and now < last.retry_at:
            return still_barred(last.failure, last.retry_at, now)
        return self._state.refusals.find(model, wanted, now) if record is None else None

    def _no_place(self, model: str, record: Record | None) -> PoolError | None:
        """Return a refusal if the model would join a queue that is as long as it may be."""
        state = self._state
        comes_new = record is None or record.server.phase is Phase.FAILED
        if comes_new and len(state.queue) >= state.limits.queue_limit:
            return queue_full(model, state.limits)
        return None

    # --- answering ----------------------------------------------------------------------

    def _is_there(self, record: Record) -> bool:
        """Return whether a server can be handed out."""
        return record.server.phase is Phase.READY and not self._is_going(record)

    def _is_going(self, record: Record) -> bool:
        """Return whether only a use check stands before a server's end.

        An eviction cordoned it, or it is claimed.
        """
        is_evicted = record.is_cordoned and bool(self._state.evictions.of(record.server.id))
        return record.claimed_for is not None or is_evicted

    def _settled(self, model: str, record: Record | None) -> Settings | None:
        """Return the settings of the start that a caller would now join, or None.

        Whoever joins takes them over, so that all who wait for a model agree on them
        even after the one who chose them has left.
        """
        if record is None or record.server.phase is Phase.FAILED:
            return None
        if record.server.phase not in life.LEAVING and not self._is_going(record):
            return record.server.settings
        first = self._state.waiters.first(model)
        return first.settings if first else None

    def _hand_out(self, record: Record, event: EnsureRequested, now: float) -> None:
        state, server = self._state, record.server
        # Who gets it now may ask it after the check that is under way.
        record.is_cordoned = False
        if event.runtime_model:
            state.note_naming(server.model, event.runtime_model)
        if event.keep_alive is not None or now - server.last_used_at >= USE_RESOLUTION_S:
            server = life.used(server, event.keep_alive, now)
            state.touch(server.model, now)
            state.table.put(server)
            if not record.is_checking:
                state.deadlines.hasten(server.id, state.due(record))
        state.answer(event.ticket, Ensured(server, started=False))

    def _wait(self, model: str, event: Asked, record: Record | None, now: float) -> None:
        state = self._state
        settled = self._settled(model, record)
        waiter = self._callers.waiter(model, event, self._runtime_model_meant(model))
        if settled is not None:
            waiter = replace(waiter, settings=settled, starts=False)
        state.waiters.add(model, waiter)
        if record is not None and record.server.phase is not Phase.FAILED:
            return
        last = self._last(model)
        is_same = last and last.settings.runtime_model == waiter.settings.runtime_model
        if last is not None and is_same and now < last.retry_at:
            self._supervisor.back_off(last, waiter.settings, last.retry_at)
        else:
            self._supervisor.enqueue(model, now)

    def _last(self, model: str) -> Server | None:
        """Return the model's server that is there, or the newest that ended, if either is known."""
        known = self._state.known(model)
        return known if isinstance(known, Server) else None

    def _runtime_model_meant(self, model: str) -> str:
        """Return the runtime model that a caller means who names none, or "": the model's own.

        What died is repaired as what it was; else it is what was named before.
        """
        last = self._last(model)
        died = last is not None and last.phase is Phase.FAILED and is_crash(last)
        if last is not None and died and self._callers.is_served(last):
            return last.settings.named_by_caller
        return self._state.named_before(model)
