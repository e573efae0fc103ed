"""Who is served what: callers' requests held against the catalogue."""

from dataclasses import replace

from pool_service.core.errors import PoolError
from pool_service.core.events import EnsureRequested, HoldRequested
from pool_service.core.failures import model_unknown, name_taken, runtime_model_unlisted
from pool_service.core.names import similar
from pool_service.core.restart_policy import is_crash
from pool_service.core.server import Cause, LastRun, Phase, Role, Server
from pool_service.core.state import PoolState
from pool_service.core.types import Settings
from pool_service.core.waiters import Waiter

Asked = EnsureRequested | HoldRequested


class Callers:
    """Read what the catalogue says of a request, and refuse what it no longer allows."""

    def __init__(self, state: PoolState) -> None:
        self._state = state

    def waiter(self, model: str, asked: Asked, was: str = "") -> Waiter:
        """Return the waiter for a request; was: the runtime model if it names none itself."""
        settings = self._state.catalogue.settings_for(model, asked.runtime_model or was)
        download = settings.download if asked.download is None else asked.download
        return Waiter(
            asked.request_id,
            asked.runtime_model,
            settings,
            asked.keep_alive,
            starts=True,
            download=download,
        )

    def wanting(self, model: str, asked: Asked, known: Server | LastRun | None) -> Waiter:
        """Return the waiter for a request of a caller; known: what is known of the model.

        Who names no runtime model means the model's own. What died is repaired as what it was;
        else it is what was named before.
        """
        if isinstance(known, Server) and self._has_died(known) and self.is_served(known):
            return self.waiter(model, asked, known.settings.named_by_caller)
        return self.waiter(model, asked, self.named_before(model))

    def _has_died(self, server: Server) -> bool:
        """Return whether a server died, though it may still finish what it has begun."""
        is_lost = server.role is Role.SUPERSEDED and server.stop_cause is Cause.WEDGED
        is_over = is_lost and not self._state.evictions.of(server.id)
        return is_crash(server) and (server.phase is Phase.FAILED or is_over)

    def named_before(self, model: str) -> str:
        """Return the runtime model that a caller means who names none, or ""."""
        catalogue = self._state.catalogue
        is_ruled = model in catalogue.models or catalogue.only_listed
        return "" if is_ruled else self._state.namings.get(model)

    def is_served(self, server: Server) -> bool:
        """Return whether the catalogue still has a server's model, by its name and as it runs."""
        catalogue, named = self._state.catalogue, server.settings.named_by_caller
        return catalogue.resolve(server.model) == server.model and catalogue.serves(
            server.model, named
        )

    def not_served(self, model: str, runtime_model: str = "") -> PoolError:
        """Return the refusal of a model that is not, or no longer, served as `runtime_model`."""
        meant = self._state.catalogue.resolve(model)
        if meant != model:
            return name_taken(model, meant)
        if self._state.catalogue.serves(model):
            return runtime_model_unlisted(model, runtime_model)
        return model_unknown(model, self.similar(model))

    def similar(self, model: str) -> tuple[str, ...]:
        """Return the models that may have been meant: listed, named before, or run before."""
        state = self._state
        listed = (*state.catalogue.models, *state.catalogue.aliases)
        if state.catalogue.only_listed:
            return similar(model, listed)
        # The newest first: so many are looked at.
        before = (*reversed([*state.namings.all()]), *reversed(state.pasts))
        return similar(model, (*listed, *before))

    def refuse_unserved(self, model: str) -> None:
        """Answer everybody who waits for or holds what may no longer be started."""
        state = self._state
        if state.catalogue.resolve(model) != model or not state.catalogue.serves(model):
            state.dismiss(model, self.not_served(model))
        # Who holds it may wait for it as well.
        named = {waiter.request_id: waiter.runtime_model for waiter in state.waiters.of(model)}
        named |= {hold.request_id: hold.runtime_model for hold in state.holds.of(model)}
        for request_id, runtime_model in named.items():
            if not state.catalogue.serves(model, runtime_model):
                if request_id is not None:
                    state.waiters.leave(request_id)
                state.answer(request_id, self.not_served(model, runtime_model))

    def up_to_date(self, server: Server) -> Server:
        """Return a server with the settings of now, outdated if its process had to be another."""
        if server.role is not Role.CURRENT:
            return server
        was, now_said = server.settings, self._settings_now(server)
        same = (now_said.runtime_model, now_said.config_hash) == (
            was.runtime_model,
            was.config_hash,
        )
        if not same or not self.is_served(server):
            return replace(server, outdated=True)
        kept = server.keep_alive == was.keep_alive
        keep_alive = now_said.keep_alive if kept else server.keep_alive
        return replace(server, settings=now_said, keep_alive=keep_alive, outdated=False)

    def _settings_now(self, server: Server) -> Settings:
        return self._state.catalogue.settings_for(server.model, server.settings.named_by_caller)
