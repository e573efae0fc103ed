"""Offering: reads the state for an offer, and changes nothing of it."""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.admission import Capacity, Demand, ExceedsShare
from pool_service.core.error_texts import share_exceeded
from pool_service.core.errors import PoolError
from pool_service.core.events import EnsureRequested
from pool_service.core.offer import (
    Look,
    LookNeeded,
    Offer,
    OfferVerdict,
    evictable,
    foresee,
    free,
    with_verdict,
)
from pool_service.core.requests import Prospect, Requests
from pool_service.core.sampler import Sampler
from pool_service.core.scheduler import Scheduler
from pool_service.core.server import Server, ServerId
from pool_service.core.state import PoolState
from pool_service.core.types import MemorySample


class Offering:
    """Make offers."""

    def __init__(
        self, state: PoolState, requests: Requests, sampler: Sampler, scheduler: Scheduler
    ) -> None:
        self._state = state
        self._requests = requests
        self._sampler = sampler
        self._scheduler = scheduler

    def offer(self, asked: EnsureRequested, look: Look | None, now: float) -> Offer | LookNeeded:
        """Return what an Ensure would do now, or what has to be looked at first.

        look: what was found for the last LookNeeded. The offer has no revision yet.
        """
        prospect = self._requests.prospect(asked, now)
        if prospect.refusal is not None:
            offer = self._waits(prospect, self._capacity(None, now))
            return replace(offer, verdict=OfferVerdict.NEVER, error=prospect.refusal)
        if prospect.server is not None:
            offer = self._waits(prospect, self._capacity(None, now))
            return self._warm(offer, prospect.server)
        if look is None or look.settings != prospect.settings:
            is_fresh = self._sampler.is_fresh(now)
            return LookNeeded(prospect.model, prospect.settings, wants_sample=not is_fresh)
        return self._of_start(prospect, look, now)

    def _capacity(self, sample: MemorySample | None, now: float) -> Capacity:
        """Return the capacity, whose residents are read once: there may be hundreds."""
        capacity = self._scheduler.capacity(now, sample)
        residents = capacity.residents()
        return replace(capacity, residents=lambda: residents)

    def _waits(self, prospect: Prospect, capacity: Capacity) -> Offer:
        """Return an offer to wait, with all that is known without a look at the model's files."""
        return Offer(
            OfferVerdict.WAITS,
            prospect.model,
            prospect.settings.runtime_model,
            free=free(capacity),
            evictable=evictable(capacity.residents()),
            listed=prospect.model in self._state.catalogue.models,
            queued=len(self._state.queue),
        )

    def _warm(self, offer: Offer, server: Server) -> Offer:
        queue = list(self._state.queue)
        return replace(
            offer,
            verdict=OfferVerdict.WARM,
            usual_load_s=server.usual_load_s,
            needed=max(server.expected, server.peak),
            queued=queue.index(server.id) if server.id in queue else 0,
        )

    def _of_start(self, prospect: Prospect, look: Look, now: float) -> Offer:
        """Return the offer for a model that would be started, or could not be."""
        capacity = self._capacity(look.sample, now)
        offer, estimate = self._waits(prospect, capacity), look.estimate
        if isinstance(estimate, PoolError):
            return replace(offer, verdict=OfferVerdict.NEVER, error=estimate)
        # No generation is given out for an offer.
        server = life.queued(None, ServerId(prospect.model, 0), prospect.settings, now)
        server, error = self._scheduler.with_estimate(
            server, estimate, now, may_download=prospect.may_download
        )
        offer = replace(
            offer,
            on_disk=estimate.on_disk,
            usual_load_s=estimate.load_s,
            needed=server.expected,
        )
        if error is not None:
            return replace(offer, verdict=OfferVerdict.NEVER, error=error)
        needs = Demand(server.model, server.expected, server.settings.groups, 0.0, prospect.account)
        decided = foresee(needs, self._scheduler.ahead(now), capacity, self._scheduler.slots, now)
        if isinstance(decided, ExceedsShare):
            error = share_exceeded(server, decided.most)
            return replace(offer, verdict=OfferVerdict.NEVER, error=error)
        if prospect.is_held_up or self._scheduler.is_short(look.sample, now):
            return offer
        return with_verdict(offer, decided, capacity)
