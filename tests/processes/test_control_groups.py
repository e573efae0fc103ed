"""Control groups: whatever a server starts is found by them, and ends with it."""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.control_groups import ControlGroups, delegated_groups
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.core.server import StopSignal
from pool_service.core.types import FOREVER, Identity
from tests.control_groups import Delegated, as_seen_by, delegated, mount
from tests.processes.bench import command_line, plan, until
from tests.processes.earlier import intent

MOUNT = mount()
NEEDS_GROUPS = pytest.mark.skipif(
    MOUNT is None, reason="needs root, and control groups of version 2"
)

HIDING = """
cd /
read go < {tell}
setsid env -i /bin/sh -c 'echo $$ > {pid}.new && mv {pid}.new {pid}; exec sleep 1000' \\
    < /dev/null > /dev/null 2>&1 &
exec sleep 1000
"""
"""Starts a process of another session and directory, without variables, and without its log.

That process tells its pid itself, so that the pid is known only once the process hides.
"""


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Delegated]:
    assert MOUNT is not None
    with delegated(MOUNT) as one:
        as_seen_by(one.service, MOUNT, tmp_path / "root")
        yield one


class Pool:
    """Processes of one state directory, in control groups or without."""

    def __init__(self, directory: Path, *, grouped: bool) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.grouped = grouped
        self.processes = self.begin()

    def begin(self) -> LocalProcesses:
        """The processes as the next service knows them."""
        root = self.directory / "root"
        groups = delegated_groups(self.state_dir, root) if self.grouped else ControlGroups()
        return LocalProcesses(
            self.state_dir, LogStore(self.state_dir), groups=groups, delays=Delays(0.5, 0.0)
        )

    async def hiding(self) -> tuple[Identity, Identity]:
        """Start a process, and have it start one that hides."""
        tell, pid = self.directory / "tell", self.directory / "pid"
        os.mkfifo(tell)
        script = HIDING.format(tell=tell, pid=pid)
        spawned = await self.processes.spawn("m", 1, plan("/bin/sh", "-c", script))
        await asyncio.to_thread(tell.write_text, "go\n")
        await until(pid.exists)
        hidden = identity_of(int(pid.read_text()))
        assert hidden is not None
        return spawned.identity, hidden

    async def end(self, leader: Identity) -> None:
        """Kill a process, and clean up after it."""
        await self.processes.signal(leader, StopSignal.KILL)
        await self.processes.exited(leader)
        await self.processes.clean_up(leader)


@NEEDS_GROUPS
@pytest.mark.parametrize("grouped", [True, False])
async def test_what_hides_from_all_else_ends_with_its_server_by_its_group(
    grouped: bool, group: Delegated, tmp_path: Path
) -> None:
    pool = Pool(tmp_path, grouped=grouped)
    leader, hidden = await pool.hiding()
    assert len(group.of_servers) == grouped
    await pool.end(leader)
    if grouped:
        assert not is_alive(hidden)
        assert group.of_servers == []
    else:
        assert is_alive(hidden)
        os.kill(hidden.pid, signal.SIGKILL)


@NEEDS_GROUPS
async def test_the_next_service_ends_what_a_server_without_a_record_has_left(
    group: Delegated, tmp_path: Path
) -> None:
    pool = Pool(tmp_path, grouped=True)
    leader, hidden = await pool.hiding()
    os.kill(leader.pid, signal.SIGKILL)
    await pool.processes.exited(leader)
    assert is_alive(hidden)
    assert await pool.begin().orphans(()) == ()
    assert not is_alive(hidden)
    assert group.of_servers == []


@NEEDS_GROUPS
async def test_of_another_state_directory_nothing_is_touched(
    group: Delegated, tmp_path: Path
) -> None:
    pool = Pool(tmp_path, grouped=True)
    leader, hidden = await pool.hiding()
    other = Pool(tmp_path, grouped=True)
    other.state_dir = tmp_path / "other"
    assert await other.begin().orphans(()) == ()
    assert is_alive(leader)
    assert is_alive(hidden)
    await pool.end(leader)


@NEEDS_GROUPS
async def test_a_server_of_the_directory_that_this_one_was_copied_from_is_left_alone(
    group: Delegated, tmp_path: Path
) -> None:
    pool = Pool(tmp_path, grouped=True)
    leader = (await pool.processes.spawn("m", 1, plan("/bin/sleep", "1000"))).identity
    pool.state_dir.rename(tmp_path / "before")
    shutil.copytree(tmp_path / "before", pool.state_dir, symlinks=True)
    assert await pool.begin().orphans(()) == ()
    assert is_alive(leader)
    await pool.end(leader)


@NEEDS_GROUPS
async def test_a_server_without_any_other_trace_is_known_by_its_group(
    group: Delegated, tmp_path: Path
) -> None:
    pool = Pool(tmp_path, grouped=True)
    script = "cd /; exec env -i sleep 1000 < /dev/null > /dev/null 2>&1"
    launched = plan("/bin/sh", "-c", script)
    spawned = await pool.processes.spawn("m", 1, launched)
    process = psutil.Process(spawned.identity.pid)
    await until(lambda: command_line(process).startswith("sleep"))
    again = pool.begin()
    recorded = replace(intent(launched), identity=spawned.identity)
    assert (await again.adopt(recorded)) is not None
    await pool.end(spawned.identity)


@NEEDS_GROUPS
def test_a_group_that_is_not_marked_as_delegated_is_not_divided(
    group: Delegated, tmp_path: Path
) -> None:
    os.removexattr(group.path, "user.delegate")  # type: ignore[attr-defined,unused-ignore]
    assert delegated_groups(tmp_path / "state", tmp_path / "root").delegated is None
    assert [one.name for one in group.path.iterdir() if one.is_dir()] == ["service"]


@NEEDS_GROUPS
def test_a_process_that_has_ended_already_is_no_error(group: Delegated, tmp_path: Path) -> None:
    groups = delegated_groups(tmp_path / "state", tmp_path / "root")
    groups.join("n", 2**22)
    assert groups.members("n") == frozenset()
    groups.kill_and_remove("n")
    groups.kill_and_remove("n")
    assert group.of_servers == []


def test_without_groups_nothing_is_done(tmp_path: Path) -> None:
    groups = delegated_groups(tmp_path / "state", tmp_path)
    groups.join("n", os.getpid())
    groups.limit(5)
    groups.kill_and_remove("n")
    groups.kill_all_but(())
    assert groups.delegated is None
    assert groups.members("n") == frozenset()


@pytest.mark.parametrize(
    ("budget", "taken", "written"),
    [(1000, "200", "1100"), (1000, "2000", "2200"), (FOREVER, "200", "max")],
)
def test_the_memory_of_all_servers_is_bounded_a_little_above_the_budget_or_what_they_have(
    budget: float, taken: str, written: str, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").touch()
    (tmp_path / "memory.current").write_text(f"{taken}\n")
    ControlGroups(tmp_path).limit(budget)
    assert (tmp_path / "memory.max").read_text() == written


def test_where_memory_is_not_delegated_it_is_not_bounded(tmp_path: Path) -> None:
    ControlGroups(tmp_path).limit(1000)
    assert list(tmp_path.iterdir()) == []


def test_who_was_told_no_budget_changes_no_bound(tmp_path: Path) -> None:
    bound = tmp_path / "memory.max"
    bound.write_text("1100")
    ControlGroups(tmp_path).kill_and_remove("n")
    assert bound.read_text() == "1100"
