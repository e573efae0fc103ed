"""Starting, watching and ending process trees, with programs of the system as servers."""

import asyncio
import os
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process import processes as module
from pool_service.adapters.process.exits import End, exit_watch, gone
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.launch import NONCE_VARIABLE, work_dirs
from pool_service.adapters.process.processes import LocalProcesses, _reap, _reap_adopted
from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.types import Diagnosis, Identity, LaunchPlan, Settings
from tests.under_way import under_way

LONG = 1000.0
PATH = (("PATH", os.environ["PATH"]),)


def plan(*argv: str) -> LaunchPlan:
    return LaunchPlan(argv, PATH, None, "/health", "m", secrets.token_hex(16))


CAT = ("/bin/cat",)
SLEEP = ("/bin/sleep", "1000")


def shell(script: str) -> LaunchPlan:
    return plan("/bin/sh", "-c", script)


class Machine:
    """The adapter under test, and the processes that it has started."""

    def __init__(self, root: Path) -> None:
        self.state_dir = root / "state"
        self.logs = LogStore(self.state_dir)
        self.processes = LocalProcesses(
            self.state_dir, self.logs, term_timeout=LONG, rescan_delay_s=0.0
        )
        self.started: list[Identity] = []

    async def spawn(self, launch_plan: LaunchPlan, model: str = "m") -> Identity:
        spawned = await self.processes.spawn(model, 1, launch_plan)
        self.started.append(spawned.identity)
        return spawned.identity

    def work(self) -> list[str]:
        """The working directories that there are."""
        directory = work_dirs(self.state_dir)
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    async def close(self) -> None:
        for identity in self.started:
            await self.processes.signal(identity, StopSignal.KILL)
            await self.processes.exited(identity)
            await self.processes.clean_up(identity)


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    the_machine = Machine(tmp_path)
    yield the_machine
    await the_machine.close()


def real(pid: int) -> Identity:
    identity = identity_of(pid)
    assert identity is not None
    return identity


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
        (End(), None, None, Diagnosis.CRASHED),
        (End(0), 0, None, Diagnosis.CRASHED),
        (End(7), 7, None, Diagnosis.CRASHED),
        (End(-15), None, 15, Diagnosis.CRASHED),
        (End(-9, is_for_memory=True), None, 9, Diagnosis.OUT_OF_MEMORY),
    ],
)
def test_an_end_is_told_in_a_code_or_a_signal(
    tmp_path: Path, end: End, code: int | None, number: int | None, diagnosis: Diagnosis
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
    assert machine.processes._pids_but(owned) == {other.pid}
    await machine.processes.signal(other, StopSignal.KILL)
    await machine.processes.exited(other)
    assert machine.processes._pids_but(owned) == frozenset()


def test_a_child_is_reaped_once() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        assert _reap(process) == 3
        assert process.returncode == 3
        assert _reap(process) == 3


def test_a_child_that_was_reaped_elsewhere_has_no_code() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        os.waitpid(process.pid, 0)
        assert _reap(process) is None
        assert process.returncode == 0, "Popen does not warn of it"


def test_of_an_adopted_process_there_is_a_code_if_it_is_a_child() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "exit 3"]) as process:
        identity = real(process.pid)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined,unused-ignore]
        assert _reap_adopted(replace(identity, start_time=1)) is None
        assert _reap_adopted(identity) == 3
        assert _reap_adopted(identity) is None
        process.returncode = 3
    assert _reap_adopted(real(os.getppid())) is None


# --- of an earlier service ----------------------------------------------------------------


def server(launch_plan: LaunchPlan | None, **more: object) -> Server:
    one = Server("m", Settings("m"), Phase.SPAWNING, 1, 0.0, 0.0, 0.0, plan=launch_plan)
    return replace(one, **more)  # type: ignore[arg-type]


@contextmanager
def earlier(
    machine: Machine, launch_plan: LaunchPlan, nonce: str | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process as an earlier service has left it: with its nonce, in its directory."""
    directory = work_dirs(machine.state_dir) / launch_plan.nonce
    directory.mkdir(parents=True, exist_ok=True)
    carried = launch_plan.nonce if nonce is None else nonce
    with under_way({NONCE_VARIABLE: carried}, directory) as process:
        yield process
        process.kill()


async def test_a_server_is_adopted_by_its_record(machine: Machine) -> None:
    launch_plan = plan(*CAT)
    with earlier(machine, launch_plan) as process, capture_logs() as logs:
        recorded = server(launch_plan, identity=real(process.pid))
        adopted = await machine.processes.adopt(recorded)
        assert adopted is not None
        assert adopted.identity == recorded.identity
        assert adopted.log_path == str(machine.logs.path_of("m", 1))
        assert machine.processes._owned[adopted.identity].is_proven
        assert logs == []
        process.kill()
        await machine.processes.exited(adopted.identity)
        await machine.processes.clean_up(adopted.identity)
    assert machine.work() == []


async def test_without_a_plan_there_is_nothing_to_adopt(machine: Machine) -> None:
    assert await machine.processes.adopt(server(None)) is None


async def test_a_server_of_which_only_the_intent_is_recorded_is_found_by_its_nonce(
    machine: Machine,
) -> None:
    launch_plan = plan(*CAT)
    with earlier(machine, launch_plan) as process, capture_logs() as logs:
        adopted = await machine.processes.adopt(server(launch_plan))
        assert adopted is not None
        assert adopted.identity == real(process.pid)
        assert logs == []


async def test_a_record_that_names_a_strangers_process_is_logged_and_not_believed(
    machine: Machine,
) -> None:
    launch_plan = plan(*CAT)
    work_dirs(machine.state_dir).mkdir(parents=True)
    with under_way({}) as stranger, capture_logs() as logs:
        recorded = server(launch_plan, identity=real(stranger.pid))
        assert await machine.processes.adopt(recorded) is None
        assert stranger.poll() is None
        stranger.kill()
    (line,) = logs
    assert line["event"] == "a record names a process that is not of this pool"
    assert line["pid"] == stranger.pid


async def test_what_an_ended_server_left_behind_is_kept_for_its_clean_up(machine: Machine) -> None:
    launch_plan = plan(*CAT)
    with earlier(machine, launch_plan) as left:
        with under_way({}) as process:
            ended = real(process.pid)
            process.kill()
        adopted = await machine.processes.adopt(server(launch_plan, identity=ended))
        assert adopted is not None
        assert adopted.identity == ended
        assert not machine.processes._owned[ended].is_proven
        await machine.processes.exited(ended)
        await machine.processes.clean_up(ended)
        assert left.wait() == -signal.SIGTERM


async def test_a_process_of_a_copied_state_directory_is_left_to_its_pool(
    machine: Machine, tmp_path: Path
) -> None:
    launch_plan = plan(*CAT)
    copied = work_dirs(machine.state_dir) / launch_plan.nonce
    copied.mkdir(parents=True)
    origin = tmp_path / "origin" / launch_plan.nonce
    origin.mkdir(parents=True)
    with under_way({NONCE_VARIABLE: launch_plan.nonce}, origin) as process:
        with capture_logs() as logs:
            assert await machine.processes.adopt(server(launch_plan)) is None
        assert process.poll() is None
        process.kill()
    (line,) = logs
    assert (line["event"], line["pid"]) == ("left alone what is of another pool", process.pid)
    assert not copied.exists()


async def test_of_an_intent_that_has_no_process_nothing_is_left(machine: Machine) -> None:
    launch_plan = plan(*CAT)
    with earlier(machine, launch_plan) as process:
        process.kill()
        process.wait()
        assert machine.work() == [launch_plan.nonce]
        assert await machine.processes.adopt(server(launch_plan)) is None
    assert machine.work() == []


@pytest.mark.parametrize("place", ["in the store", "elsewhere", ""])
def test_the_log_of_a_record_counts_if_it_is_in_the_log_directory(
    tmp_path: Path, place: str
) -> None:
    machine = Machine(tmp_path)
    own, other = machine.logs.path_of("m", 1), machine.logs.path_of("m", 7)
    recorded = {"in the store": str(other), "elsewhere": str(tmp_path / "x.log")}.get(place, "")
    one = server(plan(*CAT), log_path=recorded)
    assert machine.processes._log_of(one) == (other if place == "in the store" else own)


async def test_processes_that_no_record_tells_of_are_found_and_logged(machine: Machine) -> None:
    known, unknown, gone_ = plan(*CAT), plan(*CAT), plan(*CAT)
    (work_dirs(machine.state_dir) / gone_.nonce / "below").mkdir(parents=True)
    (work_dirs(machine.state_dir) / "a file").touch()
    spawned = await machine.spawn(plan(*SLEEP))
    own = machine.processes._owned[spawned].nonce
    with earlier(machine, known), earlier(machine, unknown) as process, capture_logs() as logs:
        (orphan,) = await machine.processes.orphans([known.nonce])
        assert orphan == real(process.pid)
        assert machine.work() == sorted([known.nonce, unknown.nonce, own, "a file"])
        assert [line["pid"] for line in logs] == [process.pid]
        assert "no record tells of" in logs[0]["event"]
        process.kill()
        await machine.processes.exited(orphan)
        await machine.processes.clean_up(orphan)
    assert unknown.nonce not in machine.work()


async def test_where_there_is_no_directory_there_are_no_orphans(machine: Machine) -> None:
    assert await machine.processes.orphans([]) == ()


async def test_a_working_directory_that_cannot_be_removed_is_logged(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("not permitted")

    monkeypatch.setattr("shutil.rmtree", refused)
    with capture_logs() as logs:
        machine.processes._remove_work_dir("nonce")
    assert [line["event"] for line in logs] == ["cannot remove a working directory"]


async def test_what_may_be_of_an_ended_server_is_logged(machine: Machine) -> None:
    with subprocess.Popen(  # noqa: ASYNC220  # it does not block
        ["/bin/sh", "-c", "sleep 1000 & echo $!"],
        env=dict(PATH),
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout
        left = int(leader.stdout.readline())
        identity = real(leader.pid)
        leader.wait()
        with capture_logs() as logs:
            module._log_unproven(replace(identity, start_time=1))
            module._log_unproven(identity)
        os.kill(left, signal.SIGKILL)
    assert [(line["pids"], line["leader"]) for line in logs] == [([left], leader.pid)] * 2


async def test_members_of_an_adopted_group_are_noted_before_it_is_signalled(
    machine: Machine,
) -> None:
    nonce = secrets.token_hex(16)
    directory = work_dirs(machine.state_dir) / nonce
    directory.mkdir(parents=True)
    with subprocess.Popen(  # noqa: ASYNC220  # it does not block
        ["/bin/sh", "-c", "env -i sleep 1000 & echo $!; read -r line"],
        env=dict(PATH) | {NONCE_VARIABLE: nonce},
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout
        member = int(leader.stdout.readline())
        launch_plan = replace(plan(*CAT), nonce=nonce)
        adopted = await machine.processes.adopt(server(launch_plan, identity=real(leader.pid)))
        assert adopted is not None
        owned = machine.processes._owned[adopted.identity]
        assert {one.pid for one in owned.members} == {member}
        owned.members = frozenset()
        await machine.processes.signal(adopted.identity, StopSignal.TERMINATE)
        assert {one.pid for one in owned.members} == {member}
        leader.wait()
        with suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
        await gone(exit_watch(), adopted.identity)
