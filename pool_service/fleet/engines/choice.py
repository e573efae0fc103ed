"""The engines that a front's configuration chooses. Each is imported only if it is."""

from collections.abc import Callable

from pool_service.fleet.config import FrontConfig
from pool_service.fleet.engines.static import SoleLeadership, StaticMembership
from pool_service.fleet.ports import Leadership, Membership


def membership_of(config: FrontConfig) -> Membership:
    """Return what knows the members."""
    return StaticMembership(config.static_members)


def leadership_of(config: FrontConfig, now: Callable[[], float]) -> Leadership:
    """Return what decides who leads. now: the time in seconds, which a machine's sleep is part of."""
    return SoleLeadership(config.front.address)
