"""What becomes of the servers when the configuration says something else.

By difference: who runs as it still says goes on. Limits of time and memory, pins and
groups count at once. What decides the process itself (the runtime model, and the
`recipe`) makes a server outdated: it goes when it is next unused, and so does one that
the catalogue no longer lists.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core import steps
from pool_service.core.requests import (
    INTERNAL,
    Answer,
    EnsureRequested,
    Reloaded,
    ReloadRequested,
)
from pool_service.core.types import FOREVER, Phase, Server
from pool_service.core.upkeep import Upkeep


class Reloading(Upkeep):
    """Takes over a new catalogue and new limits."""

    def _reload_requested(self, event: ReloadRequested, now: float) -> None:
        before = self._catalogue.preloaded()
        self._catalogue, self._limits = event.catalogue, event.limits
        # What was wrong may have been mended.
        self._refusals.forget_all()
        # What the configuration says of a model stands from now on, also when it is gone from it.
        self._forget_namings([*event.catalogue.models, *event.catalogue.aliases])
        told: dict[str, list[str]] = {"replaced": [], "updated": [], "removed": []}

        def reload(server: Server) -> None:
            change = self._reload(server, now)
            if change:
                told[change].append(server.model)

        self._each(list(self._roster), reload, now)
        self._preload(set(self._catalogue.preloaded()) - set(before), now)
        self._room_changed = True
        result = Reloaded(**{kind: tuple(models) for kind, models in told.items()})
        self._out.append(Answer(event.ticket, result))

    def _reload(self, server: Server, now: float) -> str:
        """Bring one up to date; which change that was, empty if none."""
        model = server.model
        if not self._is_served(server):
            self._refuse(model, self._not_served(model, server.settings.named_by_caller))
        self._renew_waits(server)
        fresh = self._up_to_date(server)
        if fresh == server or server.phase in life.LEAVING:
            return ""
        if server.phase is Phase.QUEUED:
            self._queue_again(server)
        elif server.phase is Phase.FAILED:
            # What was wrong may have been mended.
            self._put(life.barred(fresh, now, None))
        else:
            self._put(fresh)
            self._give_up_unwanted(model, now)
        if not fresh.outdated or server.phase in life.WITHOUT_PROCESS:
            return "updated"
        return "replaced" if self._is_served(server) else "removed"

    def _renew_waits(self, server: Server) -> None:
        """Whoever waits gets it as it is said now, and runs the runtime model that it named."""
        waits = self._waiting.of(server.model)
        if waits:
            named = next((wait.runtime_model for wait in waits if wait.runtime_model), "")
            asked = server.settings.named_by_caller
            settings = self._catalogue.settings_for(server.model, named or asked)
            renewed = [replace(wait, settings=settings) for wait in waits]
            self._waiting.replace(server.model, renewed)

    def _queue_again(self, server: Server) -> None:
        """It keeps its place, and what it needs is found out anew."""
        model = server.model
        first = self._waiting.first(model)
        if first is None:
            self._drop(server)
            return
        if model in self._unappraised:
            self._unappraised.discard(model)
            self._out.append(steps.CancelAppraise(model, server.generation))
        server = replace(server, settings=first.settings, step_deadline=FOREVER)
        self._put(server)
        self._appraise(server)

    # --- what the pool itself wants -----------------------------------------------------

    def _preload(self, models: set[str], now: float) -> None:
        """Start these though nobody asks for them, unless the service ends."""
        for model in () if self._closing else sorted(models):
            if self._roster.get(model) is None:
                try:
                    wait = self._wait_of(model, EnsureRequested(INTERNAL, model))
                    self._waiting.add(model, wait)
                    self._enqueue(model, now)
                except Exception as error:  # noqa: BLE001  # it costs that model alone
                    self._break_off(model, error, now)
