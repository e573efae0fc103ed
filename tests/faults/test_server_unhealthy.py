"""A server lives, but does not serve as it should."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import StartFailed, StartTimeout
from tests.faults.asking import complete
from tests.faults.conftest import Service, Start
from tests.faults.invariants import pool_processes, vitals
from tests.faults.table import Recovery

SICK = [
    "bind=never",
    "bind=silent",
    "health=500",
    "health=junk",
    "health=unhealthy",
    "health=unloaded",
    "health=redirect",
    "health=endless",
]
LOOKS_OFTEN = """
[service]
probe_interval = 0.4
probe_limit = 3
[defaults]
probe_timeout = 1
"""


@pytest.mark.fault("never binds, never answers; answers 500, junk, unhealthy, a redirect, no end")
def test_what_never_answers_healthy_is_never_ready_and_ended_at_its_start_limit(
    fake: Start, recovered: Recovery
) -> None:
    service = fake(
        "[service]\nmax_starts = 20\n[defaults]\nstart_timeout = 2\nprobe_timeout = 0.3\n"
    )
    before = vitals(service.pid).memory
    with ThreadPoolExecutor(len(SICK)) as callers:
        list(callers.map(lambda flags: is_not_ready(service, flags), SICK))
    for flags in SICK:
        assert pb.SERVER_STATE_READY not in service.invariants.history(flags)
        failed = service.invariants.wait_for(flags, pb.SERVER_STATE_FAILED).server
        assert failed.last_exit.cause == pb.EXIT_CAUSE_START_TIMEOUT
    assert not pool_processes(service.state_dir)
    grown = vitals(service.pid).memory - before
    recovered.figure(f"service's memory {grown / 2**20:+.0f} MiB")


def is_not_ready(service: Service, flags: str) -> None:
    with pytest.raises(StartTimeout):
        service.pool.ensure(flags, runtime_model=f"x?{flags}")


@pytest.mark.fault("stopped by SIGSTOP while READY")
def test_a_stopped_server_is_found_wedged_and_ended_by_sigterm_that_it_wakes_up_for(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real(LOOKS_OFTEN)
    first = service.pool.ensure("m", runtime_model=tiny).server
    os.kill(first.pid, signal.SIGSTOP)
    with recovered.measured():
        failed = service.invariants.wait_for("m", pb.SERVER_STATE_FAILED).server
        end = failed.last_exit
        assert (end.cause, end.signal) == (pb.EXIT_CAUSE_WEDGED, signal.SIGTERM)
        again = service.pool.ensure("m", runtime_model=tiny).server
    assert again.generation == first.generation + 1


@pytest.mark.fault("slow to answer while it works hard")
def test_a_server_that_works_too_hard_to_answer_is_left_alone_and_an_idle_one_is_not(
    fake: Start,
) -> None:
    service = fake(LOOKS_OFTEN)
    server = service.pool.ensure("hard", runtime_model="x?works=6").server
    assert complete(server, tokens=1) == 1
    (still,) = service.pool.list()
    assert (still.pid, still.state) == (server.pid, server.state)
    revision = service.invariants.revision
    os.kill(server.pid, signal.SIGSTOP)
    seen = service.invariants.wait_for("hard", pb.SERVER_STATE_FAILED, revision)
    assert seen.server.last_exit.cause == pb.EXIT_CAUSE_WEDGED


@pytest.mark.fault("ignores SIGTERM; ignores SIGINT as well")
def test_a_server_that_ignores_sigterm_gets_sigint_then_sigkill_and_that_is_said(
    fake: Start, recovered: Recovery
) -> None:
    # The one that ends at SIGINT is given long for it.
    service = fake(
        "[defaults]\ndrain_timeout = 0.3\nstop_timeout = 1\n[models.deaf]\nstop_timeout = 100\n"
    )
    service.pool.ensure("deaf", runtime_model="x?ignore=term")
    service.pool.ensure("stubborn", runtime_model="x?ignore=term,int")
    with recovered.measured():
        (deaf,) = service.pool.evict("deaf")
    with recovered.measured():
        (stubborn,) = service.pool.evict("stubborn")
    assert not deaf.killed
    assert "SIGINT" in deaf.server.detail
    assert stubborn.killed
    assert "SIGKILL" in stubborn.server.detail
    # The log may be written after the answer.
    while not (killed := [line for line in logged(service) if "SIGKILL" in line]):
        time.sleep(0.01)
    assert all("stubborn" in line for line in killed)


def logged(service: Service) -> list[str]:
    return service.running.log.read_text().splitlines()


@pytest.mark.fault("log grows without end")
def test_a_log_that_grows_without_end_is_bounded(fake: Start, tmp_path: Path) -> None:
    service = fake("[logs]\nmax_bytes = 1048576\n")
    server = service.pool.ensure("chatty", runtime_model="x?log=20000000").server
    log = Path(server.log_path)
    assert log.stat().st_size > 0
    trimmed = threading.Event()
    while log.stat().st_blocks * 512 > 2**20:
        trimmed.wait(0.1)
    assert complete(server, tokens=3) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process's limits can be set")
@pytest.mark.fault("log disk full")
def test_a_start_without_space_for_its_log_is_refused_with_the_cause_and_later_ones_are_not(
    fake: Start, recovered: Recovery
) -> None:
    if sys.platform != "linux":  # for mypy: the mark skips it
        return
    service = fake("[service]\nfailure_memory = 0\n")
    serving = service.pool.ensure("serving", runtime_model="x").server
    process = psutil.Process(service.pid)
    room = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, room[1]))
    with pytest.raises(StartFailed, match="cannot start a process"):
        service.pool.ensure("late", runtime_model="x")
    assert complete(serving, tokens=3) == 3
    assert service.pool.ensure("serving").server.pid == serving.pid
    process.rlimit(psutil.RLIMIT_FSIZE, room)
    with recovered.measured():
        service.pool.ensure("late", runtime_model="x")
