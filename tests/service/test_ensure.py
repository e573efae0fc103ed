import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast
from urllib.request import urlopen

import grpc
import psutil
import pytest

from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import (
    ExitCause,
    ModelRejected,
    PoolClient,
    RetryPolicy,
    RuntimeUnavailable,
    Server,
    ServerChanged,
    ServerState,
    StartFailed,
    StartTimeout,
)
from tests.faults.invariants import vitals
from tests.service.conftest import FAKE_RUNTIME, STAND_IN_RUNTIME, Start
from tools.demo.service import RunningService

ONCE = RetryPolicy(patience=0)


def wait_for(pool: PoolClient, model: str, state: ServerState) -> Server:
    """The server once it is in this state."""
    with pool.watch() as events:
        for event in events:
            if (
                isinstance(event, ServerChanged)
                and event.server.model == model
                and event.server.state is state
            ):
                return event.server
    raise AssertionError("the watch ended")


def servers_of(service: RunningService) -> list[psutil.Process]:
    """What it started for models; its guard is no server."""
    children = psutil.Process(service.process.pid).children(recursive=True)
    return [child for child in children if _has_nonce(child)]


def _has_nonce(child: psutil.Process) -> bool:
    try:
        return NONCE_VARIABLE in child.environ()
    except psutil.NoSuchProcess:
        return False


def test_five_models_start_side_by_side(start: Start, tmp_path: Path) -> None:
    """None of them can become ready before all five are loading."""
    models = [f"five/{number}" for number in range(5)]
    loaded = tmp_path / "loaded"
    settings = f'runtime_model = "x?load_until={loaded}"\nexpected_memory = "50 MB"\n'
    small = "".join(f'[models."{model}"]\n{settings}' for model in models)
    service = start(FAKE_RUNTIME + small)
    with PoolClient.connect(service.address) as pool, ThreadPoolExecutor(5) as callers:
        calls = [callers.submit(pool.ensure, model) for model in models]
        with pool.watch() as events:
            pids = {}
            for event in events:
                if isinstance(event, ServerChanged) and event.server.pid:
                    pids[event.server.model] = event.server.pid
                if len(pids) == len(models):
                    break
        loaded.touch()
        assert {call.result().server.state for call in calls} == {ServerState.READY}
    assert len(set(pids.values())) == len(models)


def test_a_caller_that_gives_up_does_not_abort_the_start_of_another(
    service: RunningService, pool: PoolClient, tmp_path: Path
) -> None:
    loaded = tmp_path / "loaded"
    with ThreadPoolExecutor(1) as callers:
        patient = callers.submit(pool.ensure, "shared", runtime_model=f"x?load_until={loaded}")
        wait_for(pool, "shared", ServerState.STARTING)
        with grpc.insecure_channel(service.address) as channel:
            hasty = pb_grpc.PoolServiceStub(channel)
            with pytest.raises(grpc.RpcError) as raised:
                hasty.Ensure(pb.EnsureRequest(model="shared"), timeout=0.2)
        failure = cast("grpc.Call", raised.value)
        assert failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        loaded.touch()
        assert patient.result().server.generation == 1


def test_a_stand_in_that_answers_ok_is_a_runtime(start: Start) -> None:
    service = start(STAND_IN_RUNTIME)
    with PoolClient.connect(service.address) as pool:
        first = pool.ensure("stand-in").server
        with urlopen(f"{first.endpoint}/any/path") as response:
            assert response.read() == b"ok"
        os.kill(first.pid, signal.SIGKILL)
        wait_for(pool, "stand-in", ServerState.FAILED)
        second = pool.ensure("stand-in").server
        assert second.generation == first.generation + 1
        assert second.pid != first.pid
        (evicted,) = pool.evict("stand-in")
        assert evicted.server.pid == second.pid
    assert servers_of(service) == []


def test_a_crash_is_seen_with_its_signal_and_the_next_ensure_repairs_it(
    pool: PoolClient,
) -> None:
    server = pool.ensure("crashes").server
    os.kill(server.pid, signal.SIGKILL)
    last_exit = wait_for(pool, "crashes", ServerState.FAILED).last_exit
    assert last_exit is not None
    assert last_exit.signal == signal.SIGKILL
    assert "SIGKILL" in last_exit.message
    assert pool.ensure("crashes").server.generation == server.generation + 1


@pytest.mark.long
def test_a_hundred_rounds_leave_nothing_behind(start: Start) -> None:
    service = start(STAND_IN_RUNTIME)
    with PoolClient.connect(service.address) as pool:
        # So that every worker thread exists before anything is counted.
        with ThreadPoolExecutor(16) as callers:
            list(callers.map(pool.ensure, [f"warm-up/{number}" for number in range(16)]))
        pool.evict_all(force=True)
        one_round(pool)
        before = vitals(service.process.pid)
        for _ in range(100):
            one_round(pool)
        after = vitals(service.process.pid)
        assert pool.list() == ()
    assert servers_of(service) == []
    assert after.descriptors <= before.descriptors
    assert after.threads <= before.threads


def one_round(pool: PoolClient) -> None:
    first = pool.ensure("round").server
    with urlopen(first.endpoint) as response:
        assert response.read() == b"ok"
    os.kill(first.pid, signal.SIGKILL)
    wait_for(pool, "round", ServerState.FAILED)
    assert pool.ensure("round").server.generation == first.generation + 1
    assert len(pool.evict("round")) == 1


def test_a_stranger_on_the_port_is_never_returned(start: Start, tmp_path: Path) -> None:
    """The port is told by the command; a stranger listens on it and answers 200."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        answering = threading.Thread(target=answer_ok, args=(stranger,), daemon=True)
        answering.start()
        config = (
            FAKE_RUNTIME.replace('kind = "vllm-mlx"', 'kind = "plain"').replace("{port}", str(port))
            + "[defaults]\nstart_timeout = 2\nprobe_timeout = 1\n"
            + '[models."other victim"]\nstart_timeout = 100\n'
        )
        service = start(config)
        with PoolClient.connect(service.address, retry=ONCE) as pool:
            with pytest.raises(StartTimeout):
                pool.ensure("victim", runtime_model="x?bind=never")
            with pytest.raises(StartFailed):
                pool.ensure("other victim", runtime_model="x?load=0.3")


def answer_ok(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_a_death_during_the_start_ends_the_wait_with_the_last_lines(
    service: RunningService,
) -> None:
    with PoolClient.connect(service.address, retry=ONCE) as pool:
        with pytest.raises(StartFailed) as raised:
            pool.ensure("dies", runtime_model="x?die=7&say=the+dog+ate+it")
        assert raised.value.last_lines[-1] == "the dog ate it"
        assert raised.value.retry_after is not None
        failed = wait_for(pool, "dies", ServerState.FAILED)
        assert failed.last_exit is not None
        assert failed.last_exit.code == 7


def test_a_start_over_its_limit_is_ended(start: Start) -> None:
    service = start(FAKE_RUNTIME + "[defaults]\nstart_timeout = 0.5\nprobe_timeout = 0.2\n")
    with PoolClient.connect(service.address, retry=ONCE) as pool:
        with pytest.raises(StartTimeout):
            pool.ensure("slow", runtime_model="x?bind=never")
        wait_for(pool, "slow", ServerState.FAILED)
    assert servers_of(service) == []


@pytest.mark.parametrize("way", ["reading", "computing"])
def test_a_load_that_goes_on_may_take_longer_than_a_start_may_stand_still(
    start: Start, way: str
) -> None:
    service = start(FAKE_RUNTIME + "[defaults]\nstall_timeout = 2\n")
    with PoolClient.connect(service.address, retry=ONCE) as pool:
        assert pool.ensure("large", runtime_model=f"x?load=6&load_by={way}").started


def test_a_start_that_stands_still_is_ended_and_told_how_far_it_was(start: Start) -> None:
    service = start(FAKE_RUNTIME + "[defaults]\nstall_timeout = 2\n")
    with PoolClient.connect(service.address, retry=ONCE) as pool:
        with pytest.raises(StartTimeout, match=r"stood still for [23] s.* s of processor time"):
            pool.ensure("stuck", runtime_model="x?load=1000&rss=10")
        failed = wait_for(pool, "stuck", ServerState.FAILED)
        assert failed.last_exit is not None
        assert failed.last_exit.cause is ExitCause.START_TIMEOUT
        assert "stood still" in failed.detail
    assert servers_of(service) == []


@pytest.mark.parametrize(
    "flags", ["health=500", "health=unhealthy", "health=redirect", "health=endless", "bind=silent"]
)
def test_a_server_that_does_not_answer_healthy_is_not_ready(start: Start, flags: str) -> None:
    service = start(FAKE_RUNTIME + "[defaults]\nstart_timeout = 0.8\nprobe_timeout = 0.2\n")
    with PoolClient.connect(service.address, retry=ONCE) as pool, pytest.raises(StartTimeout):
        pool.ensure("sick", runtime_model=f"x?{flags}")


def test_a_missing_runtime_is_reported_at_once_and_costs_no_process(start: Start) -> None:
    service = start("[runtime]\ncommand = ['/nowhere/to/be/found', '{port}']\n")
    with PoolClient.connect(service.address) as pool:
        with pytest.raises(RuntimeUnavailable, match="/nowhere/to/be/found"):
            pool.ensure("any")
        assert pool.list() == ()
    assert servers_of(service) == []


def test_a_directory_without_a_model_is_rejected_before_any_process(
    pool: PoolClient, service: RunningService
) -> None:
    with pytest.raises(ModelRejected, match=r"config\.json"):
        pool.ensure("empty", runtime_model="/etc")
    assert servers_of(service) == []
