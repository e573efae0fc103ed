"""Placing: which member starts a model. Pure functions of what the members have offered."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pool_service.fleet.core.state import Claim, Request, Round
from pool_service.fleet.core.values import Offer, Verdict

LOAD_STEP = 1.5
"""Loads that differ by less than this factor count as equally long, so that room decides: times of
one model on one host vary by as much."""

MOVING_REASONS = (
    "POOL_FULL",
    "QUEUE_FULL",
    "MODEL_NOT_ON_DISK",
    "MODEL_TOO_LARGE",
    "RUNTIME_UNAVAILABLE",
    "CODE_NOT_TRUSTED",
    "MODEL_UNKNOWN",
)
"""The reasons of a refusal that are of one host, so that another one is tried. If all refuse, the
caller gets the first of these: those that pass by themselves come first."""

OF_ENDING_MEMBERS = ("SHUTTING_DOWN",)
"""Reasons of members that end, and perhaps leave their servers to the service that comes next."""

OF_CALLERS = ("MODEL_UNKNOWN",)
"""Moving reasons that may be about the caller alone, who may not know the model."""


@dataclass(frozen=True, slots=True)
class Pending:
    """What has been placed on a member and is not in its offer yet.

    needed: bytes. servers: how many servers, those that it has told included.
    """

    needed: int = 0
    servers: int = 0


def pending(claims: Mapping[str, Claim], offer: Offer, model: str) -> Pending:
    """Return what was placed on a host and is not in its offer of a model yet.

    claims: of the host, by their models.
    """
    needed = servers = 0
    for name, claim in claims.items():
        if name == model:
            continue
        servers += 1
        counted = claim.counted_revision
        if counted is None or counted > offer.revision:
            needed += claim.needed
    return Pending(needed, servers)


def choose(offers: Mapping[str, Offer], pending: Mapping[str, Pending]) -> str | None:
    """Return the host with the best offer; None if no member would start the model.

    The order: a server that is there; then members with the files and room, then those that would
    stop unused servers; among these the shortest load, then the most room. Then members that would
    download the files, in the same order. Then members where the call would wait.
    """
    best: tuple[tuple[float, ...], str] | None = None
    for host, offer in offers.items():
        placed = pending.get(host, Pending())
        told = after(offer, placed)
        if told.verdict is Verdict.NEVER:
            continue
        ranked = _rank(told, placed), host
        if best is None or ranked < best:
            best = ranked
    return best[1] if best is not None else None


def is_for(placed: Round, request: Request) -> bool:
    """Return whether what a placing has found counts for a call that waits for it.

    The members were asked for another call, and may offer more to this one, as with a download.
    Those that have refused another caller may have done so for him alone.
    """
    asked = placed.asked_for or request
    is_alike = (asked.runtime_model, asked.download) == (request.runtime_model, request.download)
    return is_alike and not any(why in OF_CALLERS for why in placed.refusals.values())


def after(offer: Offer, placed: Pending) -> Offer:
    """Return an offer as it is once what was placed meanwhile has arrived at the member."""
    if offer.free is None or not placed.needed or offer.verdict in (Verdict.WARM, Verdict.NEVER):
        return offer
    free = offer.free - placed.needed
    short = offer.needed - free
    verdict = offer.verdict
    if short > 0:
        verdict = max(verdict, Verdict.EVICTS if short <= offer.evictable else Verdict.WAITS)
    return replace(offer, verdict=verdict, free=free)


def first_reason(refusals: Mapping[str, str]) -> str | None:
    """Return the host whose refusal a caller gets, of the reasons by host; None if none refused."""
    ranked = [(_rank_of_reason(reason), host) for host, reason in refusals.items()]
    return min(ranked)[1] if ranked else None


def _rank_of_reason(reason: str) -> int:
    known = reason in MOVING_REASONS
    return MOVING_REASONS.index(reason) if known else len(MOVING_REASONS)


def _rank(offer: Offer, placed: Pending) -> tuple[float, ...]:
    """Return the rank of an offer; the lowest is the best."""
    waits = offer.verdict is Verdict.WAITS
    warm = offer.verdict is Verdict.WARM
    downloads = 0 if offer.on_disk or warm else 1 if offer.on_disk is None else 2
    room = math.inf if offer.free is None else offer.free - offer.needed
    return (not warm, waits, downloads, offer.verdict, _load(offer), -room, placed.servers)


def _load(offer: Offer) -> float:
    """Return the step of a load's length; unknown ones come last."""
    if offer.usual_load is None:
        return math.inf
    return math.floor(math.log(max(offer.usual_load, 0.1), LOAD_STEP))
