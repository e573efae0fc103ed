"""Exits of processes without an event for them: pidfd_open is forbidden, or missing."""

import asyncio
import errno
import os
import resource
import select
import signal
import sys
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.process import exits
from pool_service.adapters.process.exits import PollWatch, exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.core.types import Identity
from pool_service_client import PoolClient, ServerState
from tests.processes.bench import Bench, child_of_ours, plan, until
from tests.processes.test_spawn import limit
from tests.sandbox import forbidding
from tests.service.conftest import FAKE_RUNTIME
from tests.service.test_ensure import wait_for
from tools.demo.service import running

PIDFD_OPEN = 434


def identity(pid: int) -> Identity:
    found = identity_of(pid)
    assert found is not None
    return found


async def test_polling_notices_the_exit_of_a_child_and_leaves_it_to_be_reaped() -> None:
    with child_of_ours() as child:
        waiting = asyncio.create_task(wait_for_exit(PollWatch(), identity(child.pid)))
        child.kill()
        await waiting
        assert child.wait() == -signal.SIGKILL


async def test_one_watch_polls_many_processes_and_leaves_no_descriptor(bench: Bench) -> None:
    watch = PollWatch()
    children = [await bench.spawn(plan("/bin/sleep", "1000")) for _ in range(20)]
    before = psutil.Process().num_fds()
    waits = [asyncio.create_task(wait_for_exit(watch, child)) for child in children]
    for child in children:
        os.kill(child.pid, signal.SIGKILL)
    await asyncio.gather(*waits)
    assert psutil.Process().num_fds() == before


async def test_a_cancelled_watch_leaves_no_descriptor(bench: Bench) -> None:
    child = await bench.spawn(plan("/bin/sleep", "1000"))
    before = psutil.Process().num_fds()
    waiting = asyncio.create_task(wait_for_exit(PollWatch(), child))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert psutil.Process().num_fds() == before


async def test_the_descriptor_of_one_that_has_ended_may_be_the_next_ones(bench: Bench) -> None:
    watch = PollWatch()
    first = await bench.spawn(plan("/bin/sleep", "1000"))
    second = await bench.spawn(plan("/bin/sleep", "1000"))
    lower = os.open(os.devnull, os.O_RDONLY)
    with watch.open(first.pid) as watched:
        # A pipe takes two numbers: the next one's writer gets that of the first's.
        os.close(lower)
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: select.select([watched.fileno()], [], [], 0)[0])
        # Its end was told, and the number of what told it is free again.
        waiting = asyncio.create_task(wait_for_exit(watch, second))
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    os.kill(second.pid, signal.SIGKILL)
    await waiting


async def test_a_pid_that_nobody_has_is_gone_at_once() -> None:
    with child_of_ours() as child:
        ended = identity(child.pid)
        child.kill()
    await wait_for_exit(PollWatch(), ended)


async def test_polling_without_a_descriptor_reports_no_exit(bench: Bench) -> None:
    child = await bench.spawn(plan("/bin/sleep", "1000"))
    waiting = asyncio.create_task(wait_for_exit(PollWatch(), child))
    await asyncio.sleep(0)
    with limit(resource.RLIMIT_NOFILE, 0):
        await asyncio.sleep(3 * exits.POLL_INTERVAL_S)
        assert not waiting.done()
    os.kill(child.pid, signal.SIGKILL)
    await waiting


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EACCES, errno.EINVAL])
def test_where_a_pidfd_is_refused_processes_are_polled(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(number, os.strerror(number))

    assert watch_with(refuse, monkeypatch) is PollWatch


def test_a_python_without_pidfds_polls_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    exits._pidfd_refusal.cache_clear()  # type: ignore[attr-defined,unused-ignore]
    assert type(exit_watch()) is PollWatch
    exits._pidfd_refusal.cache_clear()  # type: ignore[attr-defined,unused-ignore]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_pidfd_that_is_short_for_a_moment_is_there_later(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_pid: int) -> int:
        raise OSError(number, os.strerror(number))

    assert watch_with(refuse, monkeypatch) is not PollWatch


def watch_with(pidfd_open: object, monkeypatch: pytest.MonkeyPatch) -> type:
    monkeypatch.setattr(os, "pidfd_open", pidfd_open, raising=False)
    exits._pidfd_refusal.cache_clear()  # type: ignore[attr-defined,unused-ignore]
    try:
        return type(exit_watch())
    finally:
        exits._pidfd_refusal.cache_clear()  # type: ignore[attr-defined,unused-ignore]


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp")
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS])
def test_a_service_without_pidfds_serves_notices_deaths_and_adopts(
    number: int, tmp_path: Path
) -> None:
    config = tmp_path / "pool.toml"
    config.write_text(FAKE_RUNTIME)
    arguments = ["--config", str(config)]
    sandbox = forbidding([PIDFD_OPEN], number)
    with running(tmp_path, arguments=arguments, wrapper=sandbox) as service:
        with PoolClient.connect(service.address) as pool:
            os.kill(pool.ensure("m").server.pid, signal.SIGKILL)
            wait_for(pool, "m", ServerState.FAILED)
            second = pool.ensure("m").server
        assert "polling processes" in service.log.read_text()
        service.process.kill()
        service.process.wait()
    with (
        running(tmp_path, arguments=arguments, wrapper=sandbox) as service,
        PoolClient.connect(service.address) as pool,
    ):
        assert pool.ensure("m").server.pid == second.pid
        os.kill(second.pid, signal.SIGKILL)
        wait_for(pool, "m", ServerState.FAILED)
        assert pool.ensure("m").server.generation > second.generation
        assert service.stop() == 0
