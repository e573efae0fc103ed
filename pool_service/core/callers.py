"""Callers: what the catalogue says of their requests, and the errors for what it forbids."""

from dataclasses import replace

from pool_service.core.error_texts import model_unknown, name_taken, runtime_model_unlisted
from pool_service.core.errors import PoolError
from pool_service.core.events import EnsureRequested, HoldRequested
from pool_service.core.names import similar
from pool_service.core.restart_policy import has_crashed
from pool_service.core.server import Cause, LastRun, Phase, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.types import Settings
from pool_service.core.waiters import Waiter

Asked = EnsureRequested | HoldRequested


class Callers:
    """Derive the settings of requests from the catalogue, and the errors for what it forbids."""

    def __init__(self, state: PoolState) -> None:
        self._state = state

    def waiter(self, model: str, asked: Asked, fallback: str = "") -> Waiter:
        """Return the waiter for a request.

        fallback: the runtime model for a request that names none.
        """
        settings = self._state.settings_for(model, asked.runtime_model or fallback)
        download = settings.download if asked.download is None else asked.download
        return Waiter(
            asked.request_id,
            asked.runtime_model,
            settings,
            asked.keep_alive,
            starts=True,
            download=download,
            since=self._state.now,
            account=asked.account,
            least_generation=asked.least_generation,
        )

    def waiter_of_caller(self, model: str, asked: Asked, known: Server | LastRun | None) -> Waiter:
        """Return the waiter for a caller's request; known: the model's last server or run.

        For a caller that names no runtime model:
        1. a crashed server is started again with the runtime model that it had;
        2. else the model is started with the one that was named last, or its own.
        """
        if isinstance(known, Server) and self._has_died(known) and self.is_served(known):
            return self.waiter(model, asked, known.settings.named_by_caller)
        return self.waiter(model, asked, self.named_before(model))

    def _has_died(self, server: Server) -> bool:
        """Return whether a server crashed or was superseded as wedged, even if it still drains."""
        is_lost = server.role is Role.SUPERSEDED and server.stop_cause is Cause.WEDGED
        is_over = is_lost and not self._state.evictions.of(server.id)
        return has_crashed(server) and (server.phase is Phase.FAILED or is_over)

    def named_before(self, model: str) -> str:
        """Return the runtime model that callers named last for a model, or ""."""
        catalogue = self._state.catalogue
        is_ruled = model in catalogue.models or catalogue.only_listed
        return "" if is_ruled else self._state.namings.get(model)

    def serves(self, model: str, runtime_model: str = "") -> bool:
        """Return whether the catalogue still allows a model, as `runtime_model` if that is named.

        The name may have become an alias of another model.
        """
        catalogue = self._state.catalogue
        return catalogue.resolve(model) == model and catalogue.serves(model, runtime_model)

    def is_served(self, server: Server) -> bool:
        """Return whether the catalogue still allows a server: its model and its runtime model."""
        return self.serves(server.model, server.settings.named_by_caller)

    def not_served(self, model: str, runtime_model: str = "") -> PoolError:
        """Return the error for a model that the catalogue does not allow as `runtime_model`."""
        meant = self._state.catalogue.resolve(model)
        if meant != model:
            return name_taken(model, meant)
        if self._state.catalogue.serves(model):
            return runtime_model_unlisted(model, runtime_model)
        return model_unknown(model, self.similar(model))

    def similar(self, model: str) -> tuple[str, ...]:
        """Return known models with similar names: listed, named before, or run before."""
        state = self._state
        listed = (*state.catalogue.models, *state.catalogue.aliases)
        if state.catalogue.only_listed:
            return similar(model, listed)
        # The newest first, since only the first MAX_COMPARED names are compared.
        before = (*reversed([*state.namings.all()]), *reversed(state.pasts))
        return similar(model, (*listed, *before))

    def fail_unserved(self, model: str) -> None:
        """Answer the waiters and holders of a model that the catalogue no longer allows."""
        state = self._state
        if not self.serves(model):
            state.fail_callers(model, self.not_served(model))
        # A holder may be a waiter as well, and is answered once.
        named = {waiter.request_id: waiter.runtime_model for waiter in state.waiters.of(model)}
        named |= {hold.request_id: hold.runtime_model for hold in state.holds.of(model)}
        for request_id, runtime_model in named.items():
            if not state.catalogue.serves(model, runtime_model):
                if request_id is not None:
                    state.waiters.leave(request_id)
                state.answer(request_id, self.not_served(model, runtime_model))

    def with_present_settings(self, server: Server) -> Server:
        """Return a server with its present settings, or outdated if these need a new process."""
        if server.role is not Role.CURRENT:
            return server
        before, present = server.settings, self._settings_now(server)
        same = (present.runtime_model, present.config_hash) == (
            before.runtime_model,
            before.config_hash,
        )
        if not same or not self.is_served(server):
            kept = self.with_present_pin(server.model, before)
            return replace(server, settings=kept, outdated=True)
        is_configured = server.keep_alive == before.keep_alive
        keep_alive = present.keep_alive if is_configured else server.keep_alive
        return replace(server, settings=present, keep_alive=keep_alive, outdated=False)

    def with_present_pin(self, model: str, settings: Settings) -> Settings:
        """Return settings of a model, pinned as the catalogue and callers of Pin say now."""
        present = self._state.settings_for(model, settings.named_by_caller)
        return replace(settings, pinned=present.pinned)

    def _settings_now(self, server: Server) -> Settings:
        return self._state.settings_for(server.model, server.settings.named_by_caller)
