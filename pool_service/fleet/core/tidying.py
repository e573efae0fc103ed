"""Tidying: of a model with servers on several hosts, all but one are evicted once unused."""

from pool_service.fleet.core.commands import EvictCopy
from pool_service.fleet.core.copies import kept, surplus
from pool_service.fleet.core.leading import Leading
from pool_service.fleet.core.state import FleetState
from pool_service.fleet.core.values import Presence, ServerState

EVICT_AGAIN_S = 1.0
"""The pause before a copy is evicted again that was in use."""


class Tidying:
    """Evicts the copies that a healed network, or callers of members, have left."""

    def __init__(self, state: FleetState, leading: Leading) -> None:
        self._state = state
        self._leading = leading

    def tidy(self) -> None:
        """Evict the copies of models, without force, if this front leads.

        Only of models that something has changed for: a heal can leave hundreds in use, and events
        come by the thousand.
        """
        state = self._state
        if state.untidy and state.epoch and self._leading.flaw() is None:
            models, state.untidy = sorted(state.untidy), set()
            for model in models:
                self._tidy(model)

    def _tidy(self, model: str) -> None:
        state = self._state
        claim = state.claims.get(model)
        claimed = claim.host if claim is not None else ""
        servers = list(state.seen(model))
        stays = kept(servers, claimed)
        if stays is None or state.presence(stays.host) is not Presence.PRESENT:
            return
        for copy in surplus(servers, claimed):
            again = state.evicting.get((copy.host, model), state.now)
            is_due = again is not None and again <= state.now
            # One that still starts may have callers of its own, whom an eviction would fail.
            is_ready = copy.state is ServerState.READY
            if is_due and is_ready and state.presence(copy.host) is Presence.PRESENT:
                state.evicting[copy.host, model] = None
                state.give(EvictCopy(copy.host, model, state.epoch))

    def on_ended(self, host: str, model: str) -> None:
        """Try again later to evict a copy; nothing comes of it if the copy is gone."""
        if (host, model) in self._state.evicting:
            self._state.evicting[host, model] = self._state.now + EVICT_AGAIN_S

    def on_time(self) -> None:
        """Forget the evictions that may be tried again; what is still a copy is evicted anew."""
        state = self._state
        for (host, model), again in list(state.evicting.items()):
            if again is not None and again <= state.now:
                del state.evicting[host, model]
                state.touch(model)
