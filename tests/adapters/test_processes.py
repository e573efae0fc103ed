"""Starting, watching and ending process trees, with programs of the system as servers."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.exits import ExitStatus, reap, reap_adopted
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.launch import NONCE_VARIABLE, work_dirs
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.system import process_settings
from pool_service.core.errors import StartFailed
from pool_service.core.server import StopSignal
from pool_service.core.types import Diagnosis
from tests.adapters.descriptor_limits import descriptor_limits
from tests.adapters.process_machine import SLEEP, Machine, plan, real, shell
from tests.under_way import under_way


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    the_machine = Machine(tmp_path)
    yield the_machine
    await the_machine.close()


# --- a child ------------------------------------------------------------------------------


async def test_a_process_has_its_nonce_directory_and_log(machine: Machine) -> None:
    launch_plan = shell(f'pwd; echo "${NONCE_VARIABLE}"')
    spawned = await machine.processes.spawn("m", 3, launch_plan)
    machine.started.append(spawned.identity)
    report = await machine.processes.exited(spawned.identity)
    directory = work_dirs(machine.state_dir) / launch_plan.nonce
    assert report.last_lines == (str(directory), launch_plan.nonce)
    assert (spawned.nonce, spawned.log_path) == (
        launch_plan.nonce,
        str(machine.logs.path_of("m", 3)),
    )
    assert not await machine.processes.clean_up(spawned.identity)
    assert machine.work() == []


@pytest.mark.parametrize(
    ("script", "code", "number", "message"),
    [
        ("exit 0", 0, None, "exited with code 0"),
        ("exit 3", 3, None, "exited with code 3"),
        ("kill -9 $$", None, 9, "was ended by SIGKILL"),
    ],
)
async def test_an_exit_is_reported_by_code_or_signal(
    machine: Machine, script: str, code: int | None, number: int | None, message: str
) -> None:
    identity = await machine.spawn(shell(script))
    report = await machine.processes.exited(identity)
    assert (report.code, report.signal, report.message) == (code, number, message)
    assert await machine.processes.exited(identity) is report, "it is reported once"
    assert identity_of(identity.pid) != identity, "it was reaped"


async def test_an_exit_of_a_process_that_was_not_started_here_has_no_code(
    machine: Machine,
) -> None:
    with under_way({}) as process:
        identity = real(process.pid)
        process.kill()
        report = await machine.processes.exited(identity)
        assert (report.code, report.signal, report.last_lines) == (None, None, ())
        assert process.wait() == -signal.SIGKILL, "and is not reaped here"
        assert not await machine.processes.clean_up(identity)
        machine.processes.escalate(identity)


@pytest.mark.parametrize(
    ("end", "code", "number", "diagnosis"),
    [
        (ExitStatus(), None, None, Diagnosis.CRASHED),
        (ExitStatus(0), 0, None, Diagnosis.CRASHED),
        (ExitStatus(7), 7, None, Diagnosis.CRASHED),
        (ExitStatus(-15), None, 15, Diagnosis.CRASHED),
        (ExitStatus(-9, was_killed_for_memory=True), None, 9, Diagnosis.OUT_OF_MEMORY),
    ],
)
def test_an_end_is_told_in_a_code_or_a_signal(
    tmp_path: Path, end: ExitStatus, code: int | None, number: int | None, diagnosis: Diagnosis
) -> None:
    report = LocalProcesses(tmp_path, LogStore(tmp_path))._report("", end, ("last",))
    assert (report.code, report.signal, report.diagnosis) == (code, number, diagnosis)
    assert report.last_lines == ("last",)


@pytest.mark.parametrize(
    ("stop", "number"),
    [
        (StopSignal.TERMINATE, signal.SIGTERM),
        (StopSignal.INTERRUPT, signal.SIGINT),
        (StopSignal.KILL, signal.SIGKILL),
    ],
)
async def test_a_signal_reaches_the_whole_group_even_if_it_is_stopped(
    machine: Machine, stop: StopSignal, number: int
) -> None:
    identity = await machine.spawn(plan(*SLEEP))
    os.killpg(identity.pid, signal.SIGSTOP)
    # Returns once it is stopped, and reaps nothing.
    await asyncio.to_thread(os.waitpid, identity.pid, os.WUNTRACED)
    await machine.processes.signal(identity, stop)
    assert (await machine.processes.exited(identity)).signal == number


async def test_a_signal_is_not_sent_to_another_process_with_the_pid(machine: Machine) -> None:
    identity = await machine.spawn(plan(*SLEEP))
    await machine.processes.signal(replace(identity, start_time=1), StopSignal.KILL)
    assert is_alive(identity)


async def test_a_signal_that_may_not_be_sent_is_no_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    identity = await machine.spawn(plan(*SLEEP))
    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", refused)
        await machine.processes.signal(identity, StopSignal.TERMINATE)
    assert is_alive(identity)


async def test_what_a_process_left_behind_is_ended_and_its_directory_removed(
    machine: Machine,
) -> None:
    identity = await machine.spawn(shell("sleep 1000 & echo $!"))
    report = await machine.processes.exited(identity)
    left = real(int(report.last_lines[0]))
    assert machine.work() != []
    assert not await machine.processes.clean_up(identity)
    assert not is_alive(left)
    assert machine.work() == []
    assert not await machine.processes.clean_up(identity), "it is forgotten"


async def test_a_log_is_cut_a_last_time_when_its_process_is_cleaned_up(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.logs._max_bytes = 1000
    await machine.spawn(shell("head -c 100000 /dev/zero | tr '\\0' 'x'"))
    await machine.close()
    assert not machine.logs._live
    assert len(machine.logs.path_of("m", 1).read_bytes().lstrip(b"\0")) < 100_000


async def test_the_last_lines_of_a_server_are_without_its_probes(machine: Machine) -> None:
    line = 'INFO: 127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK'
    identity = await machine.spawn(shell(f"echo started; echo '{line}'; exec sleep 1000"))
    log = str(machine.logs.path_of("m", 1))
    while "GET" not in Path(log).read_text():  # noqa: ASYNC110, ASYNC240  # nothing tells of it
        await asyncio.sleep(0.001)
    assert await machine.processes.last_lines(log) == ("started",)
    await machine.processes.signal(identity, StopSignal.KILL)
    await machine.processes.exited(identity)
    await machine.processes.clean_up(identity)
    assert await machine.processes.last_lines(log) == ("started", line), "nobody knows its paths"


async def test_the_pids_of_other_children_are_known_until_they_are_reaped(
    machine: Machine,
) -> None:
    one, other = [await machine.spawn(plan(*SLEEP), name) for name in "ab"]
    owned = machine.processes._owned[one]
    assert machine.processes._other_children(owned) == {other.pid}
    await machine.processes.signal(other, StopSignal.KILL)
    await machine.processes.exited(other)
    assert machine.processes._other_children(owned) == frozenset()


def test_a_child_is_reaped_once() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        assert reap(process) == 3
        assert process.returncode == 3
        assert reap(process) == 3


def test_a_child_that_was_reaped_elsewhere_has_no_code() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        os.waitpid(process.pid, 0)
        assert reap(process) is None
        assert process.returncode == 0, "Popen does not warn of it"


def test_of_an_adopted_process_there_is_a_code_if_it_is_a_child() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        identity = real(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined,unused-ignore]
        assert reap_adopted(replace(identity, start_time=1)) is None
        assert reap_adopted(identity) == 3
        assert reap_adopted(identity) is None
        process.returncode = 3
    assert reap_adopted(real(os.getppid())) is None


async def test_an_escalated_clean_up_waits_for_no_request(machine: Machine) -> None:
    identity = await machine.spawn(plan(*SLEEP))
    machine.processes.escalate(identity)
    assert machine.processes._owned[identity].escalated.is_set()


async def test_a_child_of_which_nothing_can_be_read_is_killed_and_leaves_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = list[int]()

    def short(pid: int) -> None:
        pids.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pool_service.adapters.process.launch.identity_of", short)
        with pytest.raises(StartFailed, match="ulimit -n"):
            await machine.processes.spawn("m", 1, plan(*SLEEP))
    assert identity_of(pids[0]) is None
    assert machine.work() == []
    assert not machine.logs.path_of("m", 1).exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets another process's limits")
async def test_a_process_has_the_limits_that_the_service_was_started_with(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_settings, "_given_descriptors", (100, 200))
    identity = await machine.spawn(plan(*SLEEP))
    assert descriptor_limits(identity.pid) == (100, 200)


async def test_a_process_finds_the_files_of_its_plan_which_go_with_it(machine: Machine) -> None:
    script = 'test "$(cat prompts.json)" = "[1]" && ls -l prompts.json | grep -q "^-rw-------"'
    identity = await machine.spawn(replace(shell(script), files=(("prompts.json", "[1]"),)))
    report = await machine.processes.exited(identity)
    assert report.code == 0
    await machine.processes.clean_up(identity)
    assert machine.work() == []
