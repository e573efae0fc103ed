"""The service is told to end, or another one comes: its servers and callers afterwards."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import psutil
import pytest

from pool_service.adapters.state_dir.directory_lock import StateDir, StateDirHeld
from pool_service.adapters.state_dir.takeover import CLAIM
from pool_service_client import PoolClient, RetryPolicy, ServerState, Synced
from tests.faults.lives import (
    Lives,
    Stream,
    fake_lives,
    real_lives,
    same_process,
    seen,
    settled,
)
from tests.faults.table import Recovery
from tools.demo.service import ServiceFailedError, command, running

LONG = 100_000
"""Tokens: more than any test waits for."""


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Lives]:
    with real_lives(tmp_path) as lives:
        yield lives


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Lives]:
    with fake_lives(tmp_path) as lives:
        yield lives


@pytest.mark.fault("SIGTERM")
def test_sigterm_drains_and_stops_all_and_leaves_no_process(real: Lives, tiny: str) -> None:
    service = real.start()
    with real.pool() as pool:
        stream = Stream(pool.ensure("tiny", runtime_model=tiny).server, 500)
        everything = real.processes()
        service.process.terminate()
        assert stream.is_complete()
        assert service.process.wait() == 0
    psutil.wait_procs(everything)
    assert real.processes() == []


@pytest.mark.fault("SIGTERM with --keep-servers")
def test_servers_that_are_kept_answer_on_and_the_next_service_has_them(
    real: Lives, tiny: str
) -> None:
    service = real.start("--keep-servers")
    with real.pool() as pool:
        server = pool.ensure("tiny", runtime_model=tiny).server
        stream = Stream(server, 2000)
        service.process.terminate()
        assert service.process.wait() == 0
        assert real.servers() == {server.pid}
        real.start()
        ensured = pool.ensure("tiny")
        assert not ensured.started
        assert same_process(ensured.server, server)
        assert stream.is_complete()


@pytest.mark.fault("SIGTERM twice; SIGINT in a drain")
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_what_would_drain_for_long(
    real: Lives, tiny: str, second: signal.Signals
) -> None:
    service = real.start()
    with real.pool() as pool:
        server = pool.ensure("tiny", runtime_model=tiny).server
        stream = Stream(server, LONG)
        service.process.terminate()
        seen(pool, "tiny", ServerState.STOPPING)
        everything = real.processes()
        service.process.send_signal(second)
        assert service.process.wait() == 0
        stream.close()
    psutil.wait_procs(everything)
    assert real.processes() == []


@pytest.mark.fault("second service on the same state directory")
def test_a_second_service_names_the_first_which_is_undisturbed(real: Lives, tiny: str) -> None:
    service = real.start()
    with real.pool() as pool:
        server = pool.ensure("tiny", runtime_model=tiny).server
        second = subprocess.run(
            command("serve", "--listen", "127.0.0.1:0", "--state-dir", str(real.state_dir)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert second.returncode == 1
        assert str(service.process.pid) in second.stderr
        assert service.address in second.stderr
        assert same_process(pool.ensure("tiny").server, server)
        assert len(real.guards()) == 1


@pytest.mark.fault("second service on the same address")
def test_a_taken_address_is_refused_before_anything_is_touched(fake: Lives, tmp_path: Path) -> None:
    service = fake.start()
    with fake.pool() as pool:
        server = pool.ensure("m").server
        with (
            pytest.raises(ServiceFailedError, match="cannot listen on"),
            running(tmp_path / "other", [service.address]),
        ):
            pass
        assert same_process(pool.ensure("m").server, server)


@pytest.mark.fault("--replace")
def test_a_service_is_replaced_without_a_stopped_server_or_a_failed_call(
    fake: Lives, recovered: Recovery, tmp_path: Path
) -> None:
    first = fake.start()
    done, replaced = Event(), tmp_path / "replaced"
    with fake.pool() as pool, ThreadPoolExecutor(8) as callers, pool.watch() as events:
        before = [
            pool.ensure(f"m/{number}", runtime_model=f"x?answers_until={replaced}").server
            for number in range(4)
        ]
        while not isinstance(next(events), Synced):
            pass
        streams = [Stream(server, 300) for server in before]
        calls = [callers.submit(ensured_until, done, fake, server.model) for server in before]
        joining = callers.submit(pool.ensure, "loading", runtime_model=f"x?load_until={replaced}")
        loading = seen(pool, "loading", ServerState.STARTING)
        with recovered.measured():
            second = fake.start("--replace")
            assert same_process(pool.ensure("m/0").server, before[0])
        assert first.process.wait() == 0
        assert second.address == first.address
        replaced.touch()
        assert joining.result().server.pid == loading.pid
        done.set()
        for server, call in zip(before, calls, strict=True):
            assert call.result() == {(server.pid, server.endpoint)}
        assert all(callers.map(Stream.is_complete, streams))
        # A watcher of the first goes on at the second, and begins with its present state.
        while not isinstance(next(events), Synced):
            pass
        assert fake.servers() == {loading.pid, *(server.pid for server in before)}


def ensured_until(done: Event, lives: Lives, model: str) -> set[tuple[int, str]]:
    """Ensure again and again; what was answered."""
    answers = set()
    with lives.pool() as pool:
        while not done.is_set():
            server = pool.ensure(model).server
            answers.add((server.pid, server.endpoint))
    return answers


@pytest.mark.fault("--replace")
def test_where_no_service_runs_replace_just_starts(fake: Lives) -> None:
    fake.start("--replace")
    with fake.pool() as pool:
        server = pool.ensure("m").server
        fake.kill()
        fake.start("--replace")
        assert same_process(settled(pool)["m"], server)


@pytest.mark.fault("reload: the configuration is bad at a replacement")
def test_a_replacement_with_a_bad_file_leaves_the_running_service_alone(
    fake: Lives, tmp_path: Path
) -> None:
    service = fake.start()
    bad = tmp_path / "bad.toml"
    bad.write_text("[service]\nmax_startz = 3\n")
    arguments = ("--state-dir", str(fake.state_dir), "--config", str(bad), "--replace")
    second = subprocess.run(
        command("serve", *arguments), capture_output=True, text=True, check=False
    )
    assert second.returncode != 0
    assert "max_startz" in second.stderr
    with PoolClient.connect(service.address, retry=RetryPolicy(patience=0)) as pool:
        assert pool.ensure("m").started


@pytest.mark.fault("--replace of a service that is stopped (SIGSTOP) for longer than it is given")
@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc which signals are pending")
def test_a_service_that_was_asked_too_late_stays(fake: Lives) -> None:
    service = fake.start()
    with fake.pool() as pool:
        server = pool.ensure("m").server
        service.process.send_signal(signal.SIGSTOP)
        successor = Other(fake, "--replace")
        successor.asked(service.process.pid)
        successor.kill()
        service.process.send_signal(signal.SIGCONT)
        assert same_process(pool.ensure("m").server, server)
        fake.await_logged("no other service is taking over")
        assert service.process.poll() is None


@pytest.mark.fault("--replace whose successor dies before it serves")
def test_who_has_left_for_a_successor_that_dies_serves_again(fake: Lives) -> None:
    service = fake.start()
    with fake.pool() as pool:
        server = pool.ensure("m").server
        guards = fake.guards()
        with successor_held(fake) as claim:
            os.kill(service.process.pid, signal.SIGUSR1)
            wait_for(lambda: is_free(fake.state_dir))
            os.close(claim)
        assert same_process(pool.ensure("m").server, server)
        assert service.process.poll() is None
        fake.await_logged("serving again")
        psutil.wait_procs(guards)
        assert fake.servers() == {server.pid}
        service.process.terminate()
        assert service.process.wait() == 0


@pytest.mark.fault("--replace whose address is taken by another program")
def test_a_successor_that_cannot_listen_gives_the_pool_back(fake: Lives) -> None:
    service = fake.start()
    with fake.pool() as pool, socket.create_server(("127.0.0.1", 0)) as taken:
        server = pool.ensure("m").server
        arguments = ("--state-dir", str(fake.state_dir), "--replace", "--listen")
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        second = subprocess.run(
            command("serve", *arguments, address), capture_output=True, text=True, check=False
        )
        assert second.returncode == 1
        assert "cannot listen on" in second.stderr
        assert same_process(pool.ensure("m").server, server)
        assert service.process.poll() is None
        service.process.terminate()
        assert service.process.wait() == 0


@pytest.mark.fault("--replace twice at once")
def test_of_two_successors_at_once_both_take_over_one_after_the_other(fake: Lives) -> None:
    first = fake.start()
    with fake.pool() as pool, ThreadPoolExecutor(2) as starters:
        server = pool.ensure("m").server
        others = list(starters.map(lambda _: Other(fake, "--replace"), range(2)))
        wait_for(lambda: sum(one.is_there for one in others) == 1 and first.process.poll() == 0)
        assert same_process(pool.ensure("m").server, server)
        assert fake.servers() == {server.pid}
        for one in others:
            one.close()


@pytest.mark.fault("--replace in the middle of a drain")
def test_a_successor_takes_a_draining_service_over_and_escalates_nothing(
    fake: Lives, tmp_path: Path
) -> None:
    service, replaced = fake.start(), tmp_path / "replaced"
    with fake.pool() as pool:
        flags = f"x?delay=0.02&answers_until={replaced}"
        server = pool.ensure("m", runtime_model=flags).server
        stream = Stream(server, 100)
        service.process.terminate()
        seen(pool, "m", ServerState.STOPPING)
        fake.start("--replace")
        assert service.process.wait() == 0
        replaced.touch()
        assert pool.ensure("m").server.generation == server.generation + 1
        assert stream.is_complete()


@pytest.mark.fault("SIGUSR1 without a successor")
def test_a_signal_alone_is_no_successor(fake: Lives) -> None:
    service = fake.start()
    service.process.send_signal(signal.SIGUSR1)
    fake.await_logged("no other service is taking over")
    with fake.pool() as pool:
        assert pool.ensure("m").started


@contextmanager
def successor_held(lives: Lives) -> Iterator[int]:
    """The claim of a successor, which nothing stands behind."""
    descriptor = os.open(lives.state_dir / CLAIM, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield descriptor
    finally:
        with suppress(OSError):
            os.close(descriptor)


def is_free(state_dir: Path) -> bool:
    try:
        StateDir(state_dir).close()
    except StateDirHeld:
        return False
    return True


def wait_for(what: Callable[[], bool]) -> None:
    """Return when it is so; the test's own limit ends what never is."""
    while not what():
        time.sleep(0.02)


class Other:
    """A service that is not waited for."""

    def __init__(self, lives: Lives, *arguments: str) -> None:
        config = ("--config", str(lives.root / "config.toml"))
        listen = ("--state-dir", str(lives.state_dir), "--listen", lives.now.address)
        self._process = subprocess.Popen(
            command("serve", *config, *listen, *arguments),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @property
    def is_there(self) -> bool:
        return self._process.poll() is None

    def asked(self, pid: int) -> None:
        """Return when it has asked this process to leave."""
        wait_for(lambda: psutil.Process(pid).status() == "stopped" and is_pending(pid))

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def is_pending(pid: int) -> bool:
    """Whether the process has yet to take a SIGUSR1."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = next(line for line in status.splitlines() if line.startswith("ShdPnd"))
    return bool(int(pending.split()[1], 16) & 1 << (signal.SIGUSR1 - 1))
