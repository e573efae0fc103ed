"""Reconfiguration: applies a changed catalogue and changed limits to the servers.

1. A server whose settings have not changed goes on.
2. Durations, memory limits, pins and groups apply at once.
3. A change of what the process depends on (the runtime model, the `config_hash`) makes a server
   outdated: it ends when it is next unused. So does one that the catalogue no longer allows.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.callers import Callers
from pool_service.core.commands import Answer, CancelEstimate
from pool_service.core.error_containment import Containment
from pool_service.core.events import ReloadRequested
from pool_service.core.pinning import Pinning
from pool_service.core.results import Reloaded
from pool_service.core.server import Cause, Phase, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.supervisor import Supervisor
from pool_service.core.table import Row
from pool_service.core.types import FOREVER


class Reconfiguration:
    """Apply a new catalogue and new limits, and start the models to preload."""

    def __init__(
        self,
        state: PoolState,
        containment: Containment,
        callers: Callers,
        supervisor: Supervisor,
        pinning: Pinning,
    ) -> None:
        self._state = state
        self._containment = containment
        self._callers = callers
        self._supervisor = supervisor
        self._pinning = pinning

    def reload(self, event: ReloadRequested, now: float) -> None:
        """Apply a new configuration to all servers, and answer with what it changed."""
        state = self._state
        before = state.catalogue.preloaded()
        state.catalogue, state.limits = event.catalogue, event.limits
        # The new configuration may have mended the cause.
        state.failed_starts.forget_all()
        pinned_otherwise = state.fit_to_catalogue()
        changed: dict[str, list[str]] = {"replaced": [], "updated": [], "removed": []}

        def reload_one(row: Row) -> None:
            change = self._reload_server(row, now)
            if change:
                changed[change].append(row.server.model)

        self._containment.each(state.table, reload_one, now)
        # Those beside a current server, and on the way out, too.
        self._pinning.apply(pinned_otherwise, now)
        self.preload(set(state.catalogue.preloaded()) - set(before), now)
        state.capacity_changed = True
        result = Reloaded(**{kind: tuple(models) for kind, models in changed.items()})
        state.commands.append(Answer(event.request_id, result))

    def _reload_server(self, row: Row, now: float) -> str:
        """Apply the new settings to a server; return the kind of change, or ""."""
        state, server = self._state, row.server
        if server.role is not Role.CURRENT:
            return ""
        model = server.model
        if not self._callers.is_served(server):
            error = self._callers.not_served(model, server.settings.named_by_caller)
            state.fail_waiters(model, error)
        self._fail_waiters_not_served(model)
        self._update_waiters(server)
        fresh = self._callers.with_present_settings(server)
        if fresh == server or server.phase in life.LEAVING:
            self._supervisor.give_up_unwanted(model, now, Cause.RELOADED.value)
            return ""
        if server.phase is Phase.QUEUED:
            self._queue_again(row, now)
        elif server.phase is Phase.FAILED:
            # The new configuration may have mended the cause, so a start is allowed at once.
            self._pinning.put(server, life.barred(fresh, now, None), now)
        else:
            limit = fresh.settings.start_timeout
            # While the log of a timed-out start is read, its deadline is that of the reading.
            is_limited = fresh.phase is Phase.STARTING and row.timed_out is None
            if is_limited and limit != server.settings.start_timeout:
                fresh = life.with_start_limit(fresh, now)
            self._pinning.put(server, fresh, now)
            self._supervisor.give_up_unwanted(model, now)
        if not fresh.outdated or server.phase in life.WITHOUT_PROCESS:
            return "updated"
        return "replaced" if self._callers.is_served(server) else "removed"

    def _fail_waiters_not_served(self, model: str) -> None:
        """Answer the waiters whose runtime model the catalogue no longer allows for a model.

        Its server may run another one that is allowed, while they wait for its end.
        """
        for waiter in self._state.waiters.of(model):
            named = waiter.runtime_model
            if waiter.request_id is not None and named and not self._callers.serves(model, named):
                self._state.answer(waiter.request_id, self._callers.not_served(model, named))
                self._state.waiters.leave(waiter.request_id)

    def _update_waiters(self, server: Server) -> None:
        """Give all waiters of a model its new settings, with the runtime model that they named."""
        state, model = self._state, server.model
        waiters = state.waiters.of(model)
        if waiters:
            named = next((one.runtime_model for one in waiters if one.runtime_model), "")
            running = server.settings.named_by_caller
            settings = state.settings_for(model, named or running)
            updated = [replace(waiter, settings=settings) for waiter in waiters]
            state.waiters.replace(model, updated)

    def _queue_again(self, row: Row, now: float) -> None:
        """Estimate a queued server again by its new settings; its place in the queue stays."""
        state, server = self._state, row.server
        first = state.waiters.first(server.model)
        if first is None:
            self._supervisor.give_up_unwanted(server.model, now, Cause.RELOADED.value)
            return
        if row.is_estimating:
            row.is_estimating = False
            state.commands.append(CancelEstimate(server.id))
        fresh = replace(server, settings=first.settings, step_deadline=FOREVER)
        self._pinning.put(server, fresh, now)
        self._supervisor.estimate(row)

    def preload(self, models: set[str], now: float) -> None:
        """Start models without a request, unless the service is closing."""
        state = self._state

        def start(model: str) -> None:
            self._supervisor.start_unasked(model, now, "is preloaded")

        for model in () if state.is_closing else sorted(models):
            if state.table.current(model) is None:
                self._containment.attempt(model, start, now)
