"""The engines that a front's configuration chooses. Each is imported only if it is."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pool_service.config.etcd_section import EtcdKeys
from pool_service.fleet.config import FrontConfig
from pool_service.fleet.config.engines import Discovery, LeaseName, RayCluster, ServiceName
from pool_service.fleet.engines.checked import CheckedMembership
from pool_service.fleet.engines.static import SoleLeadership, StaticMembership
from pool_service.fleet.ports import Leadership, Membership


class EngineFlaw(Exception):
    """An engine cannot be used as it is configured; the text says why, and what to do."""


if TYPE_CHECKING:
    from pool_service.fleet.engines.etcd.endpoints import Access
    from pool_service.fleet.engines.kubernetes.client import KubernetesClient


def membership_of(config: FrontConfig) -> Membership:
    """Return what knows the members. Raises EngineFlaw, or ImportError for a missing package."""
    discovery = config.discovery
    if discovery is None:
        return StaticMembership(config.static_members)
    return CheckedMembership(_engine_of(config, discovery))


def _engine_of(config: FrontConfig, discovery: Discovery) -> Membership:
    if isinstance(discovery, EtcdKeys):
        from pool_service.fleet.engines.etcd.client import EtcdClient  # noqa: PLC0415
        from pool_service.fleet.engines.etcd.membership import EtcdMembership  # noqa: PLC0415

        return EtcdMembership(EtcdClient(_access(config, discovery)), prefix=discovery.prefix)
    if isinstance(discovery, ServiceName):
        from pool_service.fleet.engines.kubernetes.membership import (  # noqa: PLC0415
            ServiceMembership,
        )

        return ServiceMembership(
            _kubernetes(config),
            namespace=discovery.namespace,
            service=discovery.name,
            port=discovery.port,
        )
    if isinstance(discovery, RayCluster):
        from pool_service.fleet.engines.ray.membership import RayMembership  # noqa: PLC0415

        return RayMembership(discovery.address, config.ray.python)
    from pool_service.fleet.engines.dns import DnsMembership  # noqa: PLC0415

    return DnsMembership(discovery.name, discovery.port)


def leadership_of(config: FrontConfig, name: str, now: Callable[[], float]) -> Leadership:
    """Return what decides who leads.

    name: of the front's process. now: the time in seconds, which the sleep of a machine counts to.
    Raises EngineFlaw, or ImportError for a missing package.
    """
    leader = config.leader
    if leader is None:
        return SoleLeadership(config.front.address)
    if isinstance(leader, LeaseName):
        return _lease(config, leader, name, now)
    from pool_service.fleet.engines.etcd.client import EtcdClient  # noqa: PLC0415
    from pool_service.fleet.engines.etcd.leadership import EtcdLeadership  # noqa: PLC0415

    return EtcdLeadership(
        EtcdClient(_access(config, leader)),
        prefix=leader.prefix,
        name=name,
        address=config.front.address,
        clock=now,
    )


def _lease(
    config: FrontConfig, leader: LeaseName, name: str, now: Callable[[], float]
) -> Leadership:
    from pool_service.fleet.engines.kubernetes.access import (  # noqa: PLC0415
        OutsideCluster,
        namespace_of_pod,
    )
    from pool_service.fleet.engines.kubernetes.leadership import LeaseLeadership  # noqa: PLC0415

    try:
        namespace = leader.namespace or namespace_of_pod()
    except OutsideCluster as error:
        raise EngineFlaw(f"front.leader: {error}; write kubernetes:NAMESPACE/NAME") from error
    return LeaseLeadership(
        _kubernetes(config),
        namespace=namespace,
        lease=leader.name,
        name=name,
        address=config.front.address,
        clock=now,
    )


def _kubernetes(config: FrontConfig) -> "KubernetesClient":
    """Return what asks the API server. Raises EngineFlaw."""
    from pool_service.fleet.engines.kubernetes.access import (  # noqa: PLC0415
        Access,
        OutsideCluster,
        access_of_pod,
    )
    from pool_service.fleet.engines.kubernetes.client import KubernetesClient  # noqa: PLC0415

    section = config.kubernetes
    if not section.server:
        try:
            return KubernetesClient(access_of_pod(os.environ))
        except OutsideCluster as error:
            text = f"this front is in no pod of Kubernetes ({error}); set kubernetes.server"
            raise EngineFlaw(text) from error
    return KubernetesClient(
        Access(
            server=section.server,
            ca=section.ca,
            token=section.token_file,
            cert=section.cert,
            key=section.key,
        )
    )


def _access(config: FrontConfig, keys: EtcdKeys) -> "Access":
    """Return how etcd is reached. Raises EngineFlaw."""
    from pool_service.fleet.engines.etcd.configured import AccessFlaw, access_of  # noqa: PLC0415

    try:
        return access_of(config.etcd, keys)
    except AccessFlaw as flaw:
        raise EngineFlaw(str(flaw)) from flaw
