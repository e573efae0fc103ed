"""Processes that an earlier service has started: by their records, and without."""

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

from pool_service.adapters.process import processes as module
from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.launch import NONCE_VARIABLE, work_dirs
from pool_service.adapters.process.leftover_processes import log_unproven
from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.types import Identity, LaunchPlan, Settings
from tests.adapters.process_machine import CAT, PATH, SLEEP, Machine, plan, real
from tests.under_way import under_way


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    the_machine = Machine(tmp_path)
    yield the_machine
    await the_machine.close()


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
    assert (line["event"], line["pid"]) == ("a process of another pool is left alone", process.pid)
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
    assert machine.processes._log_path_of(one) == (other if place == "in the store" else own)


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
        assert "has no record" in logs[0]["event"]
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
        machine.processes._remove("nonce")
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
            log_unproven(replace(identity, start_time=1))
            log_unproven(identity)
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
        await wait_for_exit(exit_watch(), adopted.identity)


@pytest.mark.parametrize(("found", "searches"), [([True], 1), ([False, True], 2)])
async def test_a_leader_is_searched_for_again_only_if_none_was_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, found: list[bool], searches: int
) -> None:
    me, asked = identity_of(os.getpid()), list[str]()

    def leader(nonce: str) -> Identity | None:
        asked.append(nonce)
        return me if found[len(asked) - 1] else None

    monkeypatch.setattr(module, "leader_of", leader)
    assert await machine.processes._find_leader("nonce") == me
    assert len(asked) == searches
