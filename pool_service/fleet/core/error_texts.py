"""Errors of calls that have no seat."""

from collections.abc import Iterable

from pool_service.core.errors import PoolUnreachable, Recovering
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.values import Presence


def members_unknown() -> Recovering:
    """Return the error of a call while the front does not know its members."""
    return Recovering(
        "the front has started, and what front.discovery names has not told it yet who its members "
        "are. Try again, or call another front."
    )


def nobody_starts(name: str, model: str, members: Iterable[Member]) -> PoolUnreachable:
    """Return the error of a call for which no member can be asked."""
    told = "; ".join(f"{one.host}: {_state_in_words(one)}" for one in members)
    return PoolUnreachable(
        f"no member of the fleet can start {name!r} now ({told or 'it has none'}). "
        "Try again, or look at the members.",
        model=model,
        retry_after=RETRY_AFTER_S,
    )


def _state_in_words(member: Member) -> str:
    if member.presence is not Presence.PRESENT:
        return f"{member.presence.name.lower()}, {member.why}"
    if not member.is_reachable:
        return "no other host reaches its servers (fleet.advertise is not set there)"
    return "it does not answer"
