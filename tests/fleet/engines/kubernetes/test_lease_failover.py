"""Leadership by a Lease among fronts that are processes, so that one can die or be stopped."""

from functools import partial

import pytest

from tests.fleet.engines.failover import (
    Contend,
    check_next_leads_after_kill,
    check_stopped_leader_never_places,
    contender,
)
from tests.fleet.engines.kubernetes.api_server import LEASES, ApiServer, Kubectl
from tests.fleet.engines.kubernetes.fronts import LIFE_S

pytestmark = pytest.mark.process


def _contend(server: ApiServer, lease: str) -> Contend:
    access = server.access
    assert access.token
    ca = str(access.ca or "")
    return partial(contender, "kubernetes", access.server, str(access.token), ca, lease)


async def test_the_next_one_leads_when_the_leader_is_killed(
    server: ApiServer, kubectl: Kubectl
) -> None:
    await kubectl.delete_if_there(LEASES, "killed")
    await check_next_leads_after_kill(_contend(server, "killed"), LIFE_S)


async def test_a_leader_that_was_stopped_never_places_beside_the_next_one(
    server: ApiServer, kubectl: Kubectl
) -> None:
    await kubectl.delete_if_there(LEASES, "stopped")
    await check_stopped_leader_never_places(_contend(server, "stopped"))
