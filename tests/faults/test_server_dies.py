"""A server: its process dies."""

import pytest

from pool_service.v1 import pool_service_pb2 as pb
from tests.faults.conftest import Start
from tests.faults.table import Recovery


@pytest.mark.fault("exits 0 without being asked")
def test_an_exit_with_0_that_nobody_asked_for_is_a_crash(fake: Start, recovered: Recovery) -> None:
    service = fake()
    first = service.pool.ensure("quits", runtime_model="x?exit_after=0.3").server
    failed = service.invariants.wait_for("quits", pb.SERVER_STATE_FAILED).server
    assert failed.last_exit.cause == pb.EXIT_CAUSE_CRASHED
    assert failed.last_exit.code == 0
    with recovered.measured():
        again = service.pool.ensure("quits").server
    assert again.generation == first.generation + 1
