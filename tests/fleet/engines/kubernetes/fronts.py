"""Fronts that stand for leader by a Lease of Kubernetes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pool_service.fleet.engines.kubernetes.access import Access
from pool_service.fleet.engines.kubernetes.client import KubernetesClient
from pool_service.fleet.engines.kubernetes.leadership import LeaseLeadership
from tests.fleet.engines.kubernetes.api_server import NAMESPACE
from tests.fleet.engines.told import Front

LIFE_S = 3
"""The life of a Lease in tests, which wait for its end."""


def leadership(access: Access, lease: str, name: str, life_s: int = LIFE_S) -> LeaseLeadership:
    return LeaseLeadership(
        KubernetesClient(access),
        namespace=NAMESPACE,
        lease=lease,
        name=name,
        address=f"{name}:1",
        life_s=life_s,
    )


@asynccontextmanager
async def front(
    access: Access, lease: str, name: str, life_s: int = LIFE_S
) -> AsyncIterator[Front]:
    """Stand for leader while the block runs."""
    standing = Front(leadership(access, lease, name, life_s))
    try:
        yield standing
    finally:
        await standing.end()
