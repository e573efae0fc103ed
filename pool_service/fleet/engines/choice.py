"""The engines that a front's configuration chooses. Each is imported only if it is."""

from pool_service.fleet.config import FrontConfig
from pool_service.fleet.engines.static import SoleLeadership, StaticMembership
from pool_service.fleet.ports import Leadership, Membership


def membership_of(config: FrontConfig) -> Membership:
    """Return what knows the members."""
    return StaticMembership(config.static_members)


def leadership_of(config: FrontConfig) -> Leadership:
    """Return what decides who leads."""
    return SoleLeadership(config.front.address)
