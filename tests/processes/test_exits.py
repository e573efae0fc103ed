import asyncio
import os
import resource
import signal

import psutil
import pytest

from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.core.server import StopSignal
from pool_service.core.types import Diagnosis, Identity
from tests.processes.bench import Bench, child_of_ours, fake_plan, plan, reap
from tests.processes.test_spawn import limit

pytestmark = pytest.mark.quick
SLEEP = plan("/bin/sleep", "1000")


def identity(pid: int) -> Identity:
    found = identity_of(pid)
    assert found is not None
    return found


async def test_the_exit_of_a_child_is_reported_with_its_code_and_last_lines(bench: Bench) -> None:
    spawned = await bench.processes.spawn("x", 1, fake_plan("die=3&say=no+such+model"))
    report = await bench.processes.exited(spawned.identity)
    assert (report.code, report.signal) == (3, None)
    assert report.last_lines == ("no such model",)
    assert (report.diagnosis, report.message) == (Diagnosis.CRASHED, "exited with code 3")
    await bench.processes.clean_up(spawned.identity)


async def test_a_live_server_goes_on_writing_into_its_log_after_that_was_cut(
    bench: Bench,
) -> None:
    up = await bench.up("log=300000")
    assert trim_file(up.log_path, 10_000)
    await bench.processes.signal(up.identity, StopSignal.TERMINATE)
    report = await bench.processes.exited(up.identity)
    assert report.last_lines[-1] == "INFO:     Shutting down"
    assert report.last_lines[0] == "INFO:     a line of the log that is there to be long"
    assert len(up.log_path.read_bytes().lstrip(b"\0")) < 10_000


async def test_the_exit_of_a_child_by_a_signal_is_reported_as_that(bench: Bench) -> None:
    child = await bench.spawn(SLEEP)
    waiting = asyncio.create_task(bench.processes.exited(child))
    os.kill(child.pid, signal.SIGKILL)
    report = await waiting
    assert (report.code, report.signal) == (None, signal.SIGKILL)
    assert report.message == "was ended by SIGKILL"


async def test_an_exit_is_reported_the_same_when_asked_for_again(bench: Bench) -> None:
    child = await bench.spawn(plan("/bin/sh", "-c", "exit 4"))
    assert await bench.processes.exited(child) == await bench.processes.exited(child)


async def test_a_reported_child_is_no_zombie(bench: Bench) -> None:
    child = await bench.spawn(plan("/bin/true"))
    await bench.processes.exited(child)
    assert identity_of(child.pid) != child


async def test_the_exit_of_a_process_that_is_no_child_is_noticed_and_its_code_unknown(
    bench: Bench,
) -> None:
    up = await bench.up("child=setsid")
    assert up.child
    waiting = asyncio.create_task(bench.processes.exited(up.child))
    os.kill(up.child.pid, signal.SIGKILL)
    report = await waiting
    assert (report.code, report.signal) == (None, None)
    assert "not known" in report.message


async def test_a_child_that_somebody_else_reaped_has_no_known_code(bench: Bench) -> None:
    child = await bench.spawn(plan("/bin/sh", "-c", "exit 4"))
    reap(child)
    report = await bench.processes.exited(child)
    assert (report.code, report.signal) == (None, None)


async def test_a_process_with_the_pid_but_another_start_is_gone_at_once() -> None:
    ours = identity(os.getpid())
    await wait_for_exit(exit_watch(), Identity(ours.pid, ours.start_time - 1, ours.boot_id))


async def test_a_process_of_another_boot_is_gone_at_once() -> None:
    ours = identity(os.getpid())
    await wait_for_exit(exit_watch(), Identity(ours.pid, ours.start_time, "another"))


async def test_a_zombie_has_an_identity_and_is_not_alive() -> None:
    with child_of_ours() as child:
        alive = identity(child.pid)
        assert is_alive(alive)
        child.kill()
        await wait_for_exit(exit_watch(), alive)
        assert identity_of(child.pid) == alive
        assert not is_alive(alive)


async def test_a_wait_that_is_cancelled_leaves_no_descriptor(bench: Bench) -> None:
    child = await bench.spawn(SLEEP)
    before = psutil.Process().num_fds()
    waits = [asyncio.create_task(bench.processes.exited(child)) for _ in range(20)]
    await asyncio.sleep(0)
    assert psutil.Process().num_fds() > before
    for wait in waits:
        wait.cancel()
    results = await asyncio.gather(*waits, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert psutil.Process().num_fds() == before


async def test_an_exit_is_noticed_although_there_was_no_descriptor_to_watch_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_service.adapters.process.exits._SHORTAGE_PAUSE_S", 0)
    child = await bench.spawn(SLEEP)
    with limit(resource.RLIMIT_NOFILE, 0):
        waiting = asyncio.create_task(bench.processes.exited(child))
        await asyncio.sleep(0)
        assert not waiting.done()
    await bench.processes.signal(child, StopSignal.KILL)
    assert (await waiting).signal == signal.SIGKILL
