"""Leadership by a real etcd among fronts that are processes, so that one can die or be stopped."""

from functools import partial

import pytest

from tests.fleet.engines.etcd_process import EtcdProcess
from tests.fleet.engines.failover import (
    check_next_leads_after_kill,
    check_stopped_leader_never_places,
    contender,
)

pytestmark = pytest.mark.process

TTL_S = 3


async def test_the_next_one_leads_when_the_leader_is_killed(own_etcd: EtcdProcess) -> None:
    await check_next_leads_after_kill(partial(contender, "etcd", own_etcd.endpoint), TTL_S)


async def test_a_leader_that_was_stopped_never_places_beside_the_next_one(
    own_etcd: EtcdProcess,
) -> None:
    await check_stopped_leader_never_places(partial(contender, "etcd", own_etcd.endpoint))
