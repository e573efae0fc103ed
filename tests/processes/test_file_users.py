"""Descendants that only what they hold tells of: no nonce, no group, no session, no parent."""

import asyncio
import os
import pty
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.process.file_users import _File, _uses, find_file_users
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.system.own_files import has_open
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity
from tests.processes.bench import Bench, plan, until
from tests.processes.test_spawn import limit

pytestmark = [
    pytest.mark.quick,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]

DAEMON = """
import os, sys, time
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    {more}
    with open(sys.argv[1] + ".new", "w") as note: note.write(str(os.getpid()))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    os.execve("/bin/sleep", ["sleep", "1000"], {{}})
time.sleep(1000)
"""
NULL = "n = os.open('/dev/null', os.O_RDWR); [os.dup2(n, i) for i in range(3)]"
AWAY = "os.chdir('/')"


async def daemon_of(bench: Bench, note: Path, more: str) -> tuple[Identity, Identity]:
    """A server, and what it left behind with an empty environment."""
    leader = await bench.spawn(
        plan(sys.executable, "-S", "-E", "-c", DAEMON.format(more=more), str(note))
    )
    await until(note.exists)
    return leader, await asyncio.to_thread(noted, note)


def noted(note: Path) -> Identity:
    """Who it is of, once it has become a program with an empty environment."""
    pid = int(note.read_text())
    while Path(f"/proc/{pid}/environ").read_bytes():
        continue
    left = identity_of(pid)
    assert left is not None
    return left


@pytest.mark.parametrize(
    "more", ["pass", AWAY, NULL], ids=["log and directory", "log", "directory"]
)
async def test_a_daemon_with_an_emptied_environment_does_not_survive_the_cleanup(
    more: str, bench: Bench, tmp_path: Path
) -> None:
    leader, left = await daemon_of(bench, tmp_path / "note", more)
    await bench.processes.signal(leader, StopSignal.TERMINATE)
    await bench.processes.exited(leader)
    await bench.processes.clean_up(leader)
    assert not is_alive(left)


async def test_who_reads_the_log_or_has_another_servers_is_left_alone(bench: Bench) -> None:
    spawned = await bench.processes.spawn("x", 1, plan("/bin/sleep", "1000"))
    bench.identities.append(spawned.identity)
    await bench.spawn(plan("/bin/sleep", "1000"), model="other")
    with reading(spawned.log_path):
        log, work_dir = Path(spawned.log_path), working_directory(spawned.identity)
        assert find_file_users(log, work_dir) == {spawned.identity}
        assert find_file_users(log, work_dir, {spawned.identity.pid}) == frozenset()


@contextmanager
def reading(log: str) -> Iterator[None]:
    with subprocess.Popen(["tail", "-f", log], stdout=subprocess.DEVNULL) as reader:
        yield
        reader.kill()


def working_directory(identity: Identity) -> Path:
    return Path(f"/proc/{identity.pid}/cwd").readlink()


def test_a_person_in_the_directory_is_left_alone(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execv("/bin/sleep", ["sleep", "1000"])
    try:
        while Path(f"/proc/{pid}/cwd").readlink() != tmp_path:
            continue
        assert find_file_users(None, tmp_path) == frozenset()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_of_nothing_nobody_is_tied(tmp_path: Path) -> None:
    assert find_file_users(None, None) == frozenset()
    assert find_file_users(tmp_path / "gone", tmp_path / "gone") == frozenset()


async def test_a_search_without_a_descriptor_fails_and_finds_no_process_gone(bench: Bench) -> None:
    up = await bench.up()
    pid = up.identity.pid
    work_dir = _File.at(Path(psutil.Process(pid).cwd()))
    with limit(resource.RLIMIT_NOFILE, 0), pytest.raises(OSError, match="Too many open files"):
        _uses(pid, None, work_dir)


async def test_without_a_descriptor_it_is_unknown_which_process_has_a_file_open(
    bench: Bench,
) -> None:
    up = await bench.up()
    assert has_open(up.identity.pid, up.log_path)
    with limit(resource.RLIMIT_NOFILE, 0), pytest.raises(OSError, match="Too many open files"):
        has_open(up.identity.pid, up.log_path)
