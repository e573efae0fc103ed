"""Servers by the hundred."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.asking import complete
from tests.faults.conftest import Service, Start
from tests.faults.invariants import pool_processes, vitals
from tests.faults.table import Recovery

SPAWNS = 400
ROUNDS = 200
WARM_UP = 20
MEMORY_SLACK = 8 * 2**20
"""Bytes, for the allocator; 200 rounds that leak 64 KiB each take more."""


@pytest.mark.long
@pytest.mark.fault("400 spawns, 50 at a time")
def test_of_400_starts_50_at_a_time_none_is_lost(fake: Start, recovered: Recovery) -> None:
    service = fake("[service]\nmax_starts = 50\n")
    began = time.monotonic()
    with ThreadPoolExecutor(50) as callers:
        pids = list(callers.map(lambda number: started(service, f"m/{number}"), range(SPAWNS)))
    assert len(pids) == SPAWNS
    each = (time.monotonic() - began) / SPAWNS
    recovered.figure(f"{each:.3f} s each, started, asked and evicted")
    service.pool.evict_all(force=True)


def started(service: Service, model: str) -> int:
    server = service.pool.ensure(model, runtime_model="x").server
    assert complete(server, tokens=1) == 1
    service.pool.evict(model, force=True)
    return server.pid


@pytest.mark.long
@pytest.mark.fault("200 start/evict rounds")
def test_200_rounds_leave_descriptors_threads_zombies_and_memory_as_they_were(
    fake: Start, recovered: Recovery
) -> None:
    service = fake("[service]\nhistory = 100\n")
    # So that every worker thread exists, and the history is full, before anything is counted.
    with ThreadPoolExecutor(16) as callers:
        list(callers.map(lambda number: started(service, f"m/{number}"), range(16)))
    rounds(service, WARM_UP)
    before = vitals(service.pid)
    rounds(service, ROUNDS)
    service.invariants.check()
    after = vitals(service.pid)
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads
    assert after.zombies == 0
    assert after.memory <= before.memory + MEMORY_SLACK
    assert not pool_processes(service.state_dir)
    grown = (after.memory - before.memory) / 2**20
    recovered.figure(f"descriptors, threads: same; memory {grown:+.1f} MiB")


def rounds(service: Service, count: int) -> None:
    for _ in range(count):
        started(service, "round")
