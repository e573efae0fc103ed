"""The service in the background: `pool-service start` and `stop`, as programs call them."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.state_dir.directory_lock import StateDir
from pool_service.adapters.state_dir.holder import LOCK, is_held, read_note
from pool_service_client import PoolClient
from tests.faults.lives import Stream
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import command

SLOW = """
[models.slow]
runtime_model = "fake/slow?ignore=term"
drain_timeout = "1s"
[models.paced]
runtime_model = "fake/paced?delay=0.05"
drain_timeout = "1h"
"""
"""A model whose server does not end at once, and one whose answers take their time."""

LIMIT_S = 120.0
ENDED_S = 60.0


class Here:
    """A state directory, in which services are started in the background."""

    def __init__(self, directory: Path) -> None:
        self.state = directory / "state"
        self.config = directory / "pool.toml"
        self.config.write_text(FAKE_RUNTIME + SLOW)

    def start(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `start`; by default on a free port."""
        where = ("--config", str(self.config), "--state-dir", str(self.state))
        listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
        return run("start", *where, *listen, *arguments, code=code)

    def stop(self) -> str:
        return run("stop", "--state-dir", str(self.state)).stdout

    @property
    def pid(self) -> int:
        """The pid of the service that has noted an address."""
        note = read_note(self.state)
        assert note is not None
        return note.pid


def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*words), capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """A state directory whose service, if one is left, is ended."""
    place = Here(tmp_path)
    yield place
    place.stop()


def ended(pid: int) -> bool:
    """Wait until a process has ended; it is no child of this one."""
    try:
        psutil.Process(pid).wait(ENDED_S)
    except psutil.NoSuchProcess:
        return True
    return not psutil.pid_exists(pid)


def test_a_service_is_started_serves_and_goes_on_without_its_starter(here: Here) -> None:
    started = here.start()
    address = started.stdout.rstrip("\n")
    assert started.stderr == ""
    with PoolClient.connect(address) as pool:
        assert pool.ensure("m", timeout=LIMIT_S).started
    process = psutil.Process(here.pid)
    assert os.getsid(process.pid) == process.pid, "no end of a terminal reaches it"
    assert here.start().stdout == started.stdout
    assert here.pid == process.pid
    assert here.stop() == f"stopped the service (pid {process.pid})\n"
    assert ended(process.pid)
    assert not is_held(here.state)
    assert here.stop().startswith("no service uses ")


def test_many_who_start_it_at_once_get_one_service(here: Here) -> None:
    with ThreadPoolExecutor(8) as crowd:
        told = {one.stdout for one in crowd.map(lambda _: here.start(), range(8))}
    assert len(told) == 1
    services = [
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if {"serve", str(here.state)} <= set(one.info["cmdline"] or ())
    ]
    assert services == [here.pid]


def test_after_a_kill_the_next_one_has_the_servers_of_the_last(here: Here) -> None:
    with PoolClient.connect(here.start().stdout.strip()) as pool:
        before = pool.ensure("m", timeout=LIMIT_S).server
    os.kill(here.pid, signal.SIGKILL)
    with PoolClient.connect(here.start().stdout.strip()) as pool:
        after = pool.ensure("m", timeout=LIMIT_S)
    assert (after.started, after.server.pid) == (False, before.pid)


def test_a_start_while_the_last_service_ends_waits_for_its_end(here: Here) -> None:
    first = here.start().stdout
    pid = here.pid
    with PoolClient.connect(first.strip()) as pool:
        pool.ensure("slow", timeout=LIMIT_S)
    os.kill(pid, signal.SIGTERM)
    with PoolClient.connect(here.start("--timeout", str(LIMIT_S)).stdout.strip()) as pool:
        assert not [one for one in pool.list(timeout=LIMIT_S) if one.state.name == "READY"]
    assert here.pid != pid


def test_a_service_that_cannot_start_says_why_and_leaves_nothing(here: Here) -> None:
    taken = here.start().stdout.strip()
    failed = run(
        *("start", "--state-dir", str(here.state.with_name("second")), "--listen", taken), code=1
    )
    assert failed.stdout == ""
    assert failed.stderr.startswith(
        f"pool-service: the service was not started: cannot listen on {taken}: it is taken"
    )
    assert not is_held(here.state.with_name("second"))


def test_a_configuration_with_an_error_is_refused_before_anything_is_started(here: Here) -> None:
    here.config.write_text("[runtime]\nkomand = 1\n")
    assert "komand" in here.start(code=2).stderr
    assert not here.state.exists()


def test_a_directory_of_which_the_service_does_not_serve_is_told_in_time(here: Here) -> None:
    with StateDir(here.state):
        told = here.start("--timeout", "1s", code=4)
        assert f"(pid {os.getpid()})" in told.stderr
        assert "does not serve within 1 s" in told.stderr
    assert here.start().stdout


def test_a_service_for_other_machines_only_is_no_address_to_guess(here: Here) -> None:
    with StateDir(here.state) as state:
        state.announce(["192.0.2.7:50051"])
        told = here.start(code=1).stderr
    assert "192.0.2.7:50051" in told
    assert "POOL_SERVICE_ADDRESS" in told


@pytest.mark.parametrize("note", [b"{", b'{"pid": 0, "addresses": []}', None])
def test_a_note_that_an_earlier_service_left_is_no_service(here: Here, note: bytes | None) -> None:
    here.state.mkdir(mode=0o700)
    if note is not None:
        (here.state / LOCK).write_bytes(note)
    assert here.stop().startswith("no service uses ")
    assert here.start().stdout


def test_a_process_that_only_the_note_names_is_not_stopped(here: Here) -> None:
    with subprocess.Popen(["sleep", "600"]) as innocent:
        here.state.mkdir(mode=0o700)
        (here.state / LOCK).write_text(f'{{"pid": {innocent.pid}, "addresses": ["127.0.0.1:1"]}}')
        assert here.stop().startswith("no service uses ")
        assert innocent.poll() is None
        innocent.kill()


def test_a_long_log_is_set_aside(here: Here) -> None:
    here.state.mkdir(mode=0o700)
    (here.state / "service.log").write_bytes(b"x" * 9_000_000)
    (here.state / "service.log").chmod(0o600)
    here.start()
    assert (here.state / "service.log.1").stat().st_size == 9_000_000
    assert (here.state / "service.log").stat().st_size < 100_000


def test_a_state_directory_of_others_is_refused(here: Here) -> None:
    here.state.mkdir(mode=0o700)
    here.state.chmod(0o777)
    assert "chmod go-w" in here.start(code=1).stderr


@pytest.mark.parametrize(("word", "meant"), [("start", "ensure"), ("stop", "evict")])
def test_a_model_is_told_its_own_command(word: str, meant: str) -> None:
    assert f"pool-service {meant} qwen" in run(word, "qwen", code=2).stderr


# --- what a breaker tried ------------------------------------------------------------------


def test_a_service_is_found_by_a_link_to_its_directory(here: Here) -> None:
    here.state.mkdir(mode=0o700)
    link = here.state.with_name("link")
    link.symlink_to(here.state)
    begun = ("start", "--state-dir", str(link), "--listen", "127.0.0.1:0")
    assert run(*begun).stdout == run(*begun).stdout == here.start().stdout


def test_a_service_that_serves_is_found_whoever_holds_the_lock_of_starters(here: Here) -> None:
    address = here.start().stdout
    with (here.state / "start.lock").open() as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        assert here.start().stdout == address


def test_nothing_is_imported_from_the_directory_of_the_caller(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("click", "queue", "grpc", "types"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    with PoolClient.connect(here.start().stdout.strip()) as pool:
        assert pool.list() == ()


def test_a_service_whose_process_cannot_be_seen_is_not_said_to_be_none(here: Here) -> None:
    here.start()
    note = (here.state / LOCK).read_bytes()
    (here.state / LOCK).write_bytes(b"")
    told = run("stop", "--state-dir", str(here.state), code=5)
    assert "is in use, but this process cannot see by which one" in told.stderr
    (here.state / LOCK).write_bytes(note)


def test_two_who_stop_it_at_once_cut_no_request(here: Here) -> None:
    with PoolClient.connect(here.start().stdout.strip()) as pool:
        server = pool.ensure("paced", timeout=LIMIT_S).server
    pid, stream = here.pid, Stream(server, 60)
    with ThreadPoolExecutor(2) as two:
        stops = [two.submit(here.stop) for _ in range(2)]
        assert stream.is_complete()
        told = {one.result(LIMIT_S) for one in stops}
    assert told <= {f"stopped the service (pid {pid})\n", f"no service uses {here.state}\n"}


def test_a_service_that_is_to_stop_now_does_not_wait_for_requests(here: Here) -> None:
    with PoolClient.connect(here.start().stdout.strip()) as pool:
        server = pool.ensure("paced", timeout=LIMIT_S).server
    pid, stream = here.pid, Stream(server, 1_000_000)
    stopped = run("stop", "--now", "--state-dir", str(here.state)).stdout
    assert stopped == f"stopped the service (pid {pid})\n"
    stream.close()
