"""What tests/faults/invariants.py is for: it notices what must not be."""

import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import PoolClient
from tests.faults.invariants import Invariants
from tests.under_way import under_way
from tools.demo.service import RunningService


def test_a_service_that_does_its_work_has_no_flaws(
    service: RunningService, pool: PoolClient
) -> None:
    with Invariants.of(service) as invariants:
        pool.ensure("stays")
        pool.ensure("goes")
        pool.evict("goes")
        invariants.check()


def test_a_process_that_list_does_not_show_is_a_flaw(service: RunningService) -> None:
    directory = service.log.parent / "work" / "lost"
    directory.mkdir(parents=True)
    with Invariants.of(service) as invariants, under_way({}, directory) as lost:
        assert [str(lost.pid) in flaw for flaw in invariants.flaws()] == [True]
        lost.kill()


def test_a_gap_and_a_second_process_are_flaws(service: RunningService, pool: PoolClient) -> None:
    pids = [pool.ensure(model).server.pid for model in ("one", "other")]
    with Invariants.of(service) as invariants:
        for revision, pid in enumerate(pids, invariants.revision + 2):
            server = pb.Server(model="m", pid=pid, role=pb.SERVER_ROLE_CURRENT)
            invariants._receive(pb.WatchResponse(revision=revision, server=server), 0.0)
        assert ["followed" in flaw for flaw in invariants.broken] == [True, False]
        assert "has the processes" in invariants.broken[1]
        with pytest.raises(AssertionError):
            invariants.check()


def test_a_second_current_server_is_a_flaw_and_a_superseded_one_is_none(
    service: RunningService,
) -> None:
    roles = [pb.SERVER_ROLE_SUPERSEDED, pb.SERVER_ROLE_CURRENT, pb.SERVER_ROLE_CURRENT]
    with Invariants.of(service) as invariants:
        for number, role in enumerate(roles, 1):
            assert invariants.broken == []
            server = pb.Server(model="m", generation=number, role=role)
            revision = invariants.revision + number
            invariants._receive(pb.WatchResponse(revision=revision, server=server), 0.0)
        assert invariants.broken == ["'m' has 2 current servers"]
