"""Processes of an earlier service of which the record is not whole, or lost."""

import errno
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from pool_service.adapters.process import exits
from pool_service.adapters.process import processes as module
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.process.leftover_processes import leader_of
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity
from tests.processes.bench import Bench, ended, plan
from tests.processes.earlier import EarlierService, adopted, end, intent, work_dir
from tests.under_way import under_way

# --- a server of which only the intent is recorded ----------------------------------------


@pytest.mark.parametrize("kind", ["", "child=group", "child=setsid", "child=bare"])
async def test_a_process_whose_record_was_never_finished_is_found_by_its_nonce(
    bench: Bench, earlier: EarlierService, kind: str
) -> None:
    server, identity, _ = await earlier.up(kind)
    other, _, _ = await earlier.up(model="other")
    earlier.is_killed()
    assert server.plan
    process = await bench.processes.adopt(intent(server.plan))
    assert process
    bench.identities.append(process.identity)
    assert (process.identity, process.log_path) == (identity, server.log_path)
    await adopted(bench, other)
    await bench.processes.signal(identity, StopSignal.TERMINATE)
    assert (await end(bench, identity)).last_lines[-1] == "INFO:     Shutting down"


async def test_an_intent_that_never_had_a_process_leaves_nothing(bench: Bench) -> None:
    server = intent(plan("/bin/true"))
    work_dir(bench, server).mkdir(parents=True)
    assert await bench.processes.adopt(server) is None
    assert not work_dir(bench, server).exists()


async def test_without_a_plan_there_is_no_process(bench: Bench) -> None:
    assert await bench.processes.adopt(replace(intent(plan("x")), plan=None)) is None


async def test_of_an_intent_whose_process_died_the_descendants_are_ended(
    bench: Bench, earlier: EarlierService
) -> None:
    server, identity, child = await earlier.up("child=group&child_ignore=term")
    earlier.is_killed()
    os.kill(identity.pid, signal.SIGKILL)
    await ended(identity)
    assert server.plan
    assert await bench.processes.adopt(intent(server.plan)) is None
    assert not is_alive(child)
    assert not work_dir(bench, server).exists()


async def test_a_process_between_fork_and_exec_is_found_by_the_second_search(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = intent(plan("/bin/sleep", "1000"))
    assert server.plan
    look = leader_of
    late: list[subprocess.Popen[bytes]] = []

    def look_before(nonce: str) -> Identity | None:
        found = look(nonce)
        if not late:
            late.append(under_way({NONCE_VARIABLE: nonce}))
        return found

    monkeypatch.setattr(module, "leader_of", look_before)
    processes = LocalProcesses(bench.state_dir, bench.logs, delays=Delays(rescan_s=0))
    process = await processes.adopt(server)
    assert process
    assert process.identity == identity_of(late[0].pid)
    with late[0]:
        late[0].kill()


# --- processes that no record tells of ----------------------------------------------------


async def test_a_process_without_a_record_is_found_and_can_be_ended(
    bench: Bench, earlier: EarlierService
) -> None:
    known, _, _ = await earlier.up(model="known")
    lost, identity, child = await earlier.up("child=bare", model="lost")
    earlier.is_killed()
    await adopted(bench, known)
    assert known.plan
    with capture_logs() as logs:
        assert await bench.processes.orphans({known.plan.nonce}) == (identity,)
    assert [line["pid"] for line in logs] == [identity.pid]
    assert is_alive(identity)
    await bench.processes.signal(identity, StopSignal.TERMINATE)
    await end(bench, identity)
    assert not is_alive(child)
    assert [path.name for path in (bench.state_dir / "work").iterdir()] == [known.plan.nonce]
    assert not work_dir(bench, lost).exists()


async def test_directories_that_no_process_has_are_removed(bench: Bench, tmp_path: Path) -> None:
    work = bench.state_dir / "work"
    (work / "left" / "over").mkdir(parents=True)
    (work / "recorded").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (work / "link").symlink_to(tmp_path / "elsewhere")
    spawned = await bench.spawn(plan("/bin/sleep", "1000"))
    own = Path(psutil.Process(spawned.pid).cwd()).name
    assert await bench.processes.orphans(["recorded"]) == ()
    assert {path.name for path in work.iterdir()} == {"recorded", "link", own}


async def test_where_there_is_no_directory_there_are_no_orphans(bench: Bench) -> None:
    assert await bench.processes.orphans([]) == ()


async def test_descendants_of_a_process_without_a_record_are_ended(
    bench: Bench, earlier: EarlierService
) -> None:
    server, identity, child = await earlier.up("child=group")
    earlier.is_killed()
    os.kill(identity.pid, signal.SIGKILL)
    await ended(identity)
    assert await bench.processes.orphans([]) == ()
    assert not is_alive(child)
    assert not work_dir(bench, server).exists()


async def test_orphans_are_found_when_descriptors_are_free_again(
    bench: Bench, earlier: EarlierService, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, identity, _ = await earlier.up()
    earlier.is_killed()
    failures, really_scan = [OSError(errno.EMFILE, "Too many open files")], os.scandir

    def scandir(path: str) -> object:
        if failures:
            raise failures.pop()
        return really_scan(path)

    monkeypatch.setattr(exits, "_SHORTAGE_PAUSE_S", 0.0)
    monkeypatch.setattr(os, "scandir", scandir)
    assert await bench.processes.orphans([]) == (identity,)
    bench.identities.append(identity)
