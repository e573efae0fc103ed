"""Pins by callers: Pin overrides what the configuration says of a model, for its servers at once.

A pin is a setting of a model's servers like the configured one, so that all rules read only
`Settings.pinned`: `PoolState.settings_for` adds it for later servers, and `Pinning` puts it into
the present ones and their waiters.
"""

from collections.abc import Iterable
from dataclasses import replace

from pool_service.core.call_error_texts import too_many_pins
from pool_service.core.callers import Callers
from pool_service.core.commands import Answer, RecordPins
from pool_service.core.events import PinRequested
from pool_service.core.remembered import MAX_PINS
from pool_service.core.results import Pinned
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import Settings

TAKEN_BACK = "its pin was taken back"
"""Shown of a server whose pin was taken back, and of a start that was for the pin alone."""


class Pinning:
    """Remember what callers of Pin say of models, and apply it."""

    def __init__(
        self, state: PoolState, callers: Callers, scheduler: Scheduler, supervisor: Supervisor
    ) -> None:
        self._state = state
        self._callers = callers
        self._scheduler = scheduler
        self._supervisor = supervisor

    def pin(self, event: PinRequested, now: float) -> None:
        """Remember whether a model is to be pinned, apply that to its servers, and answer."""
        state = self._state
        model = state.catalogue.resolve(event.model)
        if event.pinned and not state.catalogue.serves(model):
            state.commands.append(Answer(event.request_id, self._callers.not_served(model)))
            return
        said = state.to_remember(model, pinned=event.pinned)
        if said is not None and not state.pins.has_place(model):
            error = too_many_pins(model, MAX_PINS, pinned=said)
            state.commands.append(Answer(event.request_id, error))
            return
        before = self._present(model).pinned
        is_new = state.pins.set(model, pinned=said)
        if is_new:
            state.commands.append(RecordPins(state.pins.all()))
            self.apply([model], now)
        present = self._present(model)
        configured = state.catalogue.settings_for(model, present.named_by_caller).pinned
        changed = present.pinned is not before
        result = Pinned(present.pinned, changed, configured, is_new, said is not None)
        state.commands.append(Answer(event.request_id, result))

    def _present(self, model: str) -> Settings:
        """Return the settings of a model's present server, or those of its next one."""
        row = self._state.table.current(model)
        if row is not None:
            return row.server.settings
        return self._state.settings_for(model, self._callers.named_before(model))

    def apply(self, models: Iterable[str], now: float) -> None:
        """Give the servers and waiters of `models` their present pins."""
        for model in models:
            self._apply(model, now)

    def _apply(self, model: str, now: float) -> None:
        """Give a model's servers and waiters its present pin."""
        state = self._state
        waiters = state.waiters.of(model)
        if waiters:
            updated = [replace(one, settings=self._as_now(model, one.settings)) for one in waiters]
            state.waiters.replace(model, updated)
            self._supervisor.give_up_unwanted(model, now, TAKEN_BACK)
        for row in (*state.table.beside(model), state.table.current(model)):
            if row is not None:
                self._apply_to(row, now)

    def _apply_to(self, row: Row, now: float) -> None:
        server = row.server
        settings = self._as_now(server.model, server.settings)
        if settings != server.settings:
            self.put(server, replace(server, settings=settings), now)

    def put(self, before: Server, server: Server, now: float) -> None:
        """Put a server with changed settings; one that they pin is preempted for others no more."""
        row = self._state.put(server)
        is_pinned = server.settings.pinned
        if is_pinned is before.settings.pinned:
            return
        why = "it was pinned" if is_pinned else TAKEN_BACK
        self._state.note(row.server, server.phase, server.phase, why)
        if is_pinned:
            self._scheduler.release(row, now)

    def _as_now(self, model: str, settings: Settings) -> Settings:
        return self._callers.with_present_pin(model, settings)
