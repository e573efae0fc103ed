"""The engines that a front's configuration chooses. Each is imported only if it is."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from pool_service.config.etcd_section import EtcdKeys
from pool_service.fleet.config import FrontConfig
from pool_service.fleet.engines.static import SoleLeadership, StaticMembership
from pool_service.fleet.ports import Leadership, Membership


class EngineFlaw(Exception):
    """An engine cannot be used as it is configured; the text says why, and what to do."""


if TYPE_CHECKING:
    from pool_service.fleet.engines.etcd.endpoints import Access


def membership_of(config: FrontConfig) -> Membership:
    """Return what knows the members. Raises EngineFlaw, or ImportError for a missing package."""
    discovery = config.discovery
    if discovery is None:
        return StaticMembership(config.static_members)
    if isinstance(discovery, EtcdKeys):
        from pool_service.fleet.engines.etcd.client import EtcdClient  # noqa: PLC0415
        from pool_service.fleet.engines.etcd.membership import EtcdMembership  # noqa: PLC0415

        return EtcdMembership(EtcdClient(_access(config, discovery)), prefix=discovery.prefix)
    from pool_service.fleet.engines.dns import DnsMembership  # noqa: PLC0415

    return DnsMembership(discovery.name, discovery.port)


def leadership_of(config: FrontConfig, name: str, now: Callable[[], float]) -> Leadership:
    """Return what decides who leads.

    name: of the front's process. now: the time in seconds, which the sleep of a machine counts to.
    Raises EngineFlaw.
    """
    leader = config.leader
    if leader is None:
        return SoleLeadership(config.front.address)
    from pool_service.fleet.engines.etcd.client import EtcdClient  # noqa: PLC0415
    from pool_service.fleet.engines.etcd.leadership import EtcdLeadership  # noqa: PLC0415

    return EtcdLeadership(
        EtcdClient(_access(config, leader)),
        prefix=leader.prefix,
        name=name,
        address=config.front.address,
        clock=now,
    )


def _access(config: FrontConfig, keys: EtcdKeys) -> "Access":
    """Return how etcd is reached. Raises EngineFlaw."""
    from pool_service.fleet.engines.etcd.configured import AccessFlaw, access_of  # noqa: PLC0415

    try:
        return access_of(config.etcd, keys)
    except AccessFlaw as flaw:
        raise EngineFlaw(str(flaw)) from flaw
