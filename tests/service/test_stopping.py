import os
import pty
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pool_service_client import (
    Evicted,
    PoolClient,
    RetryPolicy,
    ServerInUse,
    ServerRemoved,
    ServerState,
    ShuttingDown,
    Synced,
)
from tests.faults.lives import Stream
from tests.idle import await_idle
from tests.service.conftest import FAKE_RUNTIME, Start
from tests.service.test_ensure import servers_of, wait_for
from tools.demo.service import RunningService, ServiceFailedError, command, running

ONCE = RetryPolicy(patience=0)


@pytest.fixture
def over(tmp_path: Path) -> Path:
    """The file that ends the answers of servers whose model says `answers_until` it."""
    return tmp_path / "over"


def test_a_busy_server_is_not_evicted_without_force(pool: PoolClient, over: Path) -> None:
    server = pool.ensure("busy", runtime_model=f"x?answers_until={over}").server
    stream = Stream(server, tokens=1)
    with pytest.raises(ServerInUse):
        pool.evict("busy")
    assert pool.evict_idle() == ()
    over.touch()
    assert stream.is_complete()
    await_idle(server.endpoint)
    assert len(pool.evict("busy")) == 1


def test_a_stream_in_flight_at_a_forced_eviction_ends_by_itself(
    pool: PoolClient, over: Path
) -> None:
    server = pool.ensure("drained", runtime_model=f"x?answers_until={over}").server
    stream = Stream(server, tokens=1)
    with ThreadPoolExecutor(1) as callers:
        evicting = callers.submit(pool.evict, "drained", force=True)
        wait_for(pool, "drained", ServerState.STOPPING)
        over.touch()
        assert stream.is_complete()
        (evicted,) = evicting.result()
    assert not evicted.killed
    assert not psutil.pid_exists(server.pid)


def test_an_idle_server_goes_by_itself_and_a_busy_one_stays(start: Start, over: Path) -> None:
    service = start(FAKE_RUNTIME + "[defaults]\nkeep_alive = 0.2\ngrace_period = 0.2\n")
    with PoolClient.connect(service.address) as pool, pool.watch() as events:
        assert isinstance(next(events), Synced)
        with pool.hold("busy", runtime_model=f"x?answers_until={over}") as hold:
            stream = Stream(hold.ready(), tokens=1)
        pool.ensure("idle")
        gone = []
        for event in events:
            if isinstance(event, ServerRemoved):
                gone.append(event.server.model)
                if event.server.model == "idle":
                    left = [(server.model, server.state) for server in pool.list()]
                    assert left == [("busy", ServerState.READY)]
                    over.touch()
                    assert stream.is_complete()
                if len(gone) == 2:
                    break
    assert gone == ["idle", "busy"]


def test_an_eviction_during_a_start_ends_it_and_answers_the_waiters(
    service: RunningService,
) -> None:
    with (
        PoolClient.connect(service.address, retry=ONCE) as pool,
        ThreadPoolExecutor(1) as callers,
    ):
        waiting = callers.submit(pool.ensure, "wanted", runtime_model="x?bind=never")
        wait_for(pool, "wanted", ServerState.STARTING)
        pool.evict("wanted")
        with pytest.raises(Evicted):
            waiting.result()
    assert servers_of(service) == []


def test_a_server_that_ignores_signals_is_killed_and_that_is_said(start: Start) -> None:
    service = start(FAKE_RUNTIME + "[defaults]\ndrain_timeout = 0.2\nstop_timeout = 0.2\n")
    with PoolClient.connect(service.address) as pool:
        pool.ensure("stubborn", runtime_model="x?ignore=term,int")
        (evicted,) = pool.evict("stubborn")
    assert evicted.killed
    assert servers_of(service) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_drains_and_stops_all_and_exits_0(
    start: Start, over: Path, number: signal.Signals
) -> None:
    service = start()
    with PoolClient.connect(service.address) as pool:
        servers = [
            pool.ensure(f"m/{index}", runtime_model=f"x?answers_until={over}").server
            for index in range(3)
        ]
        stream = Stream(servers[0], tokens=1)
        service.process.send_signal(number)
        wait_for(pool, "m/0", ServerState.STOPPING)
        over.touch()
        assert stream.is_complete()
        assert service.process.wait(30) == 0
    assert not any(psutil.pid_exists(server.pid) for server in servers)


def test_callers_that_come_or_wait_during_the_shutdown_get_that_reason(
    service: RunningService, over: Path
) -> None:
    with (
        PoolClient.connect(service.address, retry=ONCE) as pool,
        ThreadPoolExecutor(1) as callers,
        grpc.insecure_channel(service.address) as channel,
    ):
        busy = pool.ensure("busy", runtime_model=f"x?answers_until={over}").server
        stream = Stream(busy, tokens=1)
        waiting = callers.submit(pool.ensure, "loading", runtime_model="x?bind=never")
        wait_for(pool, "loading", ServerState.STARTING)
        service.process.terminate()
        with pytest.raises(ShuttingDown) as raised:
            waiting.result()
        assert raised.value.retry_after is not None
        with pytest.raises(ShuttingDown):
            pool.ensure("late")
        health = health_pb2_grpc.HealthStub(channel)
        check = health.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
        assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
        over.touch()
        assert stream.is_complete()
        assert service.process.wait(30) == 0


def test_a_second_signal_escalates_a_drain(service: RunningService) -> None:
    with PoolClient.connect(service.address) as pool:
        server = pool.ensure("endless", runtime_model="x?delay=0.5").server
        stream = Stream(server, tokens=1000)
        service.process.terminate()
        wait_for(pool, "endless", ServerState.STOPPING)
        service.process.terminate()
        assert service.process.wait(30) == 0
        stream.close()
    assert not psutil.pid_exists(server.pid)


def test_two_signals_that_come_together_escalate(service: RunningService) -> None:
    with PoolClient.connect(service.address) as pool:
        server = pool.ensure("endless", runtime_model="x?delay=0.5").server
        stream = Stream(server, tokens=1000)
        service.process.send_signal(signal.SIGSTOP)
        service.process.send_signal(signal.SIGTERM)
        service.process.send_signal(signal.SIGINT)
        service.process.send_signal(signal.SIGCONT)
        assert service.process.wait(30) == 0
        stream.close()
    assert "in time" not in service.log.read_text()
    assert not psutil.pid_exists(server.pid)


def test_a_terminal_that_closes_drains_and_does_not_escalate(tmp_path: Path, over: Path) -> None:
    """A hangup without that reads the configuration again: tests/service/test_capacity.py."""
    config, log = tmp_path / "pool.toml", tmp_path / "log"
    config.write_text(FAKE_RUNTIME)
    words = command("serve", "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "state"))
    pid, terminal = pty.fork()
    if not pid:
        with log.open("w") as stderr:
            os.dup2(stderr.fileno(), 2)
        os.execv(words[0], [*words, "--config", str(config)])
    with os.fdopen(terminal) as shown:
        address = shown.readline().removeprefix("listening on ").strip()
        with PoolClient.connect(address) as pool:
            busy = pool.ensure("busy", runtime_model=f"x?answers_until={over}").server
            stream = Stream(busy, tokens=1)
            shown.close()
            wait_for(pool, "busy", ServerState.STOPPING)
            os.kill(pid, signal.SIGHUP)
            over.touch()
            assert stream.is_complete()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_second_service_on_the_same_state_directory_is_refused(
    service: RunningService, pool: PoolClient, tmp_path: Path
) -> None:
    second = subprocess.run(
        command("serve", "--listen", "127.0.0.1:0", "--state-dir", str(service.log.parent)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert str(service.process.pid) in second.stderr
    assert service.address in second.stderr
    assert "Traceback" not in second.stderr
    assert pool.ensure("undisturbed").started


def test_a_second_service_on_the_same_address_is_refused(
    service: RunningService, pool: PoolClient, tmp_path: Path
) -> None:
    with (
        pytest.raises(ServiceFailedError, match="cannot listen on"),
        running(tmp_path / "other", [service.address]),
    ):
        pass
    assert pool.ensure("undisturbed").started


def test_servers_get_a_scrubbed_environment_and_no_descriptor_of_the_service(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(FAKE_RUNTIME)
    environment = {**os.environ, "WEB_CONCURRENCY": "4", "PYTHONSTARTUP": "/dev/null"}
    with (
        running(tmp_path / "s", arguments=["--config", str(path)], environment=environment) as one,
        PoolClient.connect(one.address) as pool,
    ):
        server = psutil.Process(pool.ensure("clean").server.pid)
        assert not {"WEB_CONCURRENCY", "PYTHONSTARTUP"} & server.environ().keys()
        inherited = {file.path for file in server.open_files()}
        assert str(tmp_path / "s" / "lock") not in inherited
