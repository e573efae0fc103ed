"""A service is killed, another takes over what it started."""

import asyncio
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.core.server import StopSignal
from pool_service.core.types import Diagnosis, Identity, LaunchPlan
from tests.processes.bench import (
    Bench,
    child_of_ours,
    ended,
    fake_plan,
    first_line,
    plan,
    reap,
    until,
)
from tests.processes.earlier import EarlierService, adopted, end, intent, work_dir


async def test_a_server_goes_on_and_is_adopted_as_it_was_recorded(
    bench: Bench, earlier: EarlierService
) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    process = await bench.processes.adopt(server)
    assert process
    bench.identities.append(identity)
    assert (process.identity, process.log_path) == (server.identity, server.log_path)
    assert is_alive(identity)


async def test_its_end_is_noticed_with_its_last_lines_and_its_code_is_not_known(
    bench: Bench, earlier: EarlierService
) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    await adopted(bench, server)
    waiting = asyncio.create_task(bench.processes.exited(identity))
    await asyncio.sleep(0)
    os.kill(identity.pid, signal.SIGKILL)
    report = await waiting
    assert (report.code, report.signal) == (None, None)
    assert "not known" in report.message
    assert "Uvicorn running" in report.last_lines[-1]


async def test_what_its_last_lines_mean_is_reported(bench: Bench, earlier: EarlierService) -> None:
    server = await earlier.starts(fake_plan("die=1&say=no+such+model"))
    assert server.identity
    # Before that it may still be tied to who started it, and end with that.
    await until(lambda: "no such model" in Path(server.log_path).read_text())
    earlier.is_killed()
    # While it is just ending, nothing proves any more whose it is.
    await ended(server.identity)

    def diagnose(
        code: int | None, number: int | None, lines: tuple[str, ...]
    ) -> tuple[Diagnosis, str]:
        return Diagnosis.MODEL_REJECTED, f"said {lines[-1]}"

    processes = LocalProcesses(bench.state_dir, bench.logs, diagnose_of=lambda _: diagnose)
    await processes.adopt(server)
    report = await processes.exited(server.identity)
    await processes.clean_up(server.identity)
    assert (report.diagnosis, report.message) == (Diagnosis.MODEL_REJECTED, "said no such model")


async def test_it_drains_and_ends_by_sigterm(bench: Bench, earlier: EarlierService) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    await adopted(bench, server)
    await bench.processes.signal(identity, StopSignal.TERMINATE)
    assert (await end(bench, identity)).last_lines[-1] == "INFO:     Shutting down"
    assert not work_dir(bench, server).exists()


@pytest.mark.parametrize("kind", ["group", "setsid", "bare"])
@pytest.mark.parametrize("ignores", ["", "&child_ignore=term"])
async def test_after_its_cleanup_a_grandchild_is_gone(
    bench: Bench, earlier: EarlierService, kind: str, ignores: str
) -> None:
    server, identity, child = await earlier.up(f"child={kind}{ignores}")
    earlier.is_killed()
    await adopted(bench, server)
    os.kill(identity.pid, signal.SIGKILL)
    await bench.processes.exited(identity)
    assert is_alive(child)
    await bench.processes.clean_up(identity)
    assert not is_alive(child)
    assert not work_dir(bench, server).exists()


async def test_a_grandchild_that_came_after_the_adoption_is_seen_at_the_signal(
    bench: Bench, earlier: EarlierService, tmp_path: Path
) -> None:
    go, came = tmp_path / "go", tmp_path / "came"
    os.mkfifo(go)
    os.mkfifo(came)
    script = f"read _ < {go}; {bare_child(came)} & wait"
    server = await earlier.starts(plan("/bin/sh", "-c", script))
    earlier.is_killed()
    identity = await adopted(bench, server)
    # Both ends are open then: opened for reading as well, it waits for nobody.
    descriptor = os.open(go, os.O_RDWR)
    os.write(descriptor, b"\n")
    child = identity_of(int(await first_line(came)))
    os.close(descriptor)
    assert child
    await bench.processes.signal(identity, StopSignal.TERMINATE)
    await end(bench, identity)
    assert not is_alive(child)


async def test_adopted_twice_it_is_still_one(bench: Bench, earlier: EarlierService) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    assert await bench.processes.adopt(server) == await bench.processes.adopt(server)
    await bench.processes.signal(identity, StopSignal.TERMINATE)
    await end(bench, identity)


async def test_its_log_is_kept_from_growing(bench: Bench, earlier: EarlierService) -> None:
    server, identity, _ = await earlier.up("log=300000")
    earlier.is_killed()
    logs = LogStore(bench.state_dir, max_bytes=10_000)
    processes = LocalProcesses(bench.state_dir, logs)
    await processes.adopt(server)
    logs.trim()
    assert size_of(server.log_path) < 10_000
    await processes.signal(identity, StopSignal.KILL)
    await processes.exited(identity)
    await processes.clean_up(identity)


async def test_one_that_died_meanwhile_is_reported_at_once_and_cleaned_up(
    bench: Bench, earlier: EarlierService
) -> None:
    server, identity, child = await earlier.up("child=setsid")
    earlier.is_killed()
    os.kill(identity.pid, signal.SIGKILL)
    await ended(identity)
    assert await adopted(bench, server) == identity
    assert "Uvicorn running" in (await end(bench, identity)).last_lines[-1]
    assert not is_alive(child)
    assert not work_dir(bench, server).exists()


async def test_of_one_that_died_meanwhile_what_carries_the_nonce_proves_its_group(
    bench: Bench, tmp_path: Path
) -> None:
    came = tmp_path / "came"
    os.mkfifo(came)
    launch_plan = plan("/bin/sh", "-c", f"/bin/sleep 1000 & {bare_child(came)} & wait")
    spawned = await bench.processes.spawn("x", 1, launch_plan)
    bench.identities.append(spawned.identity)
    child = identity_of(int(await first_line(came)))
    assert child
    await end_of_reaped(bench, launch_plan, spawned.identity)
    assert not is_alive(child)


async def test_of_one_that_died_meanwhile_what_nothing_proves_is_left_alone_and_reported(
    bench: Bench, tmp_path: Path
) -> None:
    came = tmp_path / "came"
    os.mkfifo(came)
    launch_plan = plan("/bin/sh", "-c", f"{bare_child(came)} & wait")
    spawned = await bench.processes.spawn("x", 1, launch_plan)
    bench.identities.append(spawned.identity)
    child = identity_of(int(await first_line(came)))
    assert child
    with capture_logs() as logs:
        await end_of_reaped(bench, launch_plan, spawned.identity)
    assert is_alive(child)
    assert [line["pids"] for line in logs] == [[child.pid]]
    os.kill(child.pid, signal.SIGKILL)


def bare_child(came: Path) -> str:
    """A program that holds nothing of its server's, not even the environment; it tells its pid."""
    told = f"cd /; echo $$ > {came}; exec /bin/sleep 1000"
    return f"env -i /bin/sh -c '{told}' > /dev/null 2>&1"


async def end_of_reaped(bench: Bench, launch_plan: LaunchPlan, identity: Identity) -> None:
    """It is killed and nothing of it is left before it is adopted, ended and swept."""
    os.kill(identity.pid, signal.SIGKILL)
    await ended(identity)
    reap(identity)
    processes = LocalProcesses(bench.state_dir, bench.logs, delays=Delays(term_timeout_s=0.5))
    await processes.adopt(replace(intent(launch_plan), identity=identity))
    await processes.exited(identity)
    await processes.clean_up(identity)


async def test_a_stranger_that_has_the_pid_now_is_not_touched(bench: Bench) -> None:
    with child_of_ours() as stranger, capture_logs() as logs:
        there = identity_of(stranger.pid)
        assert there
        before = replace(there, start_time=there.start_time - 1)
        server = replace(intent(plan("/bin/sleep", "1")), identity=before, log_path="")
        assert await adopted(bench, server) == before
        for stop in StopSignal:
            await bench.processes.signal(before, stop)
        report = await end(bench, before)
        assert (report.code, report.signal) == (None, None)
        assert is_alive(there)
        stranger.kill()
    assert logs == []


async def test_a_stranger_that_leads_a_group_of_that_number_is_not_touched(bench: Bench) -> None:
    other = await bench.up("child=bare", model="other")
    assert other.child
    before = replace(other.identity, start_time=other.identity.start_time - 1)
    await end(bench, await adopted(bench, replace(intent(plan("x")), identity=before)))
    assert is_alive(other.identity)
    assert is_alive(other.child)
    await bench.processes.signal(other.identity, StopSignal.KILL)


async def test_a_zombie_counts_as_dead(bench: Bench, earlier: EarlierService) -> None:
    server, identity, _ = await earlier.up()
    earlier.process.send_signal(signal.SIGSTOP)  # it reaps nobody
    os.kill(identity.pid, signal.SIGKILL)
    await ended(identity)
    assert identity_of(identity.pid) == identity
    report = await end(bench, await adopted(bench, server))
    assert (report.code, report.signal) == (None, None)


async def test_of_one_that_is_our_child_the_code_is_known(bench: Bench) -> None:
    """As after an upgrade by exec, which keeps the pid and so the children."""
    go = bench.root / "go"
    launch_plan = fake_plan(f"load_until={go}&die=3")
    spawned = await bench.processes.spawn("x", 1, launch_plan)
    bench.identities.append(spawned.identity)
    after_exec = LocalProcesses(bench.state_dir, bench.logs)
    server = replace(intent(launch_plan), identity=spawned.identity, log_path=spawned.log_path)
    await after_exec.adopt(server)
    go.touch()
    report = await after_exec.exited(spawned.identity)
    await after_exec.clean_up(spawned.identity)
    assert (report.code, report.signal) == (3, None)
    assert identity_of(spawned.identity.pid) != spawned.identity


def size_of(path: str) -> int:
    """Bytes that a log holds, after what was cut."""
    return len(Path(path).read_bytes().lstrip(b"\0"))


async def test_a_record_that_names_a_strangers_process_is_not_believed(
    bench: Bench, earlier: EarlierService
) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    bench.identities.append(identity)
    with child_of_ours() as stranger, capture_logs() as logs:
        told = replace(server, identity=identity_of(stranger.pid))
        process = await bench.processes.adopt(told)
        assert [line["event"] for line in logs][:1] == [
            "a record names a process that is not of this pool"
        ]
        # What carries the record's nonce is, whatever pid was told.
        assert process
        assert process.identity == identity
        os.kill(identity.pid, signal.SIGKILL)
        await ended(identity)
        await bench.processes.clean_up(identity)
        assert await bench.processes.adopt(told) is None
        assert stranger.poll() is None
        stranger.kill()


async def test_a_strangers_group_is_left_alone_though_its_leader_has_ended(
    bench: Bench, earlier: EarlierService
) -> None:
    server = intent(fake_plan())
    with child_of_ours() as stranger:
        leader = identity_of(stranger.pid)
        assert leader
        stranger.kill()
        await ended(leader)
        # Not reaped yet: the group's number is its own.
        told = replace(server, identity=leader)
        process = await bench.processes.adopt(told)
        assert process
        await bench.processes.clean_up(leader)


async def test_a_copy_of_a_state_directory_takes_nothing_from_the_pool_it_was_copied_from(
    bench: Bench, earlier: EarlierService, tmp_path: Path
) -> None:
    server, identity, _ = await earlier.up()
    copied = tmp_path / "copy"
    shutil.copytree(bench.state_dir, copied)
    other = LocalProcesses(copied, LogStore(copied), delays=Delays(rescan_s=0.0))
    assert await other.adopt(server) is None
    assert await other.orphans(()) == ()
    assert is_alive(identity)
    earlier.is_killed()
    bench.identities.append(identity)


async def test_a_state_directory_that_was_moved_has_its_servers(
    bench: Bench, earlier: EarlierService, tmp_path: Path
) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    bench.identities.append(identity)
    moved = bench.state_dir.rename(tmp_path / "moved")
    process = await LocalProcesses(moved, LogStore(moved)).adopt(server)
    assert process
    assert process.identity == identity
    assert process.log_path.startswith(str(moved))


async def test_a_log_that_is_elsewhere_is_none_of_its_server(
    bench: Bench, earlier: EarlierService, tmp_path: Path
) -> None:
    server, identity, _ = await earlier.up()
    earlier.is_killed()
    bench.identities.append(identity)
    precious = tmp_path / "precious.log"
    precious.write_text("kept")
    process = await bench.processes.adopt(replace(server, log_path=str(precious)))
    assert process
    assert process.log_path == server.log_path
