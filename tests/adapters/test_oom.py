"""Claims about which deaths are taken for the system's, for want of memory."""

import resource
from pathlib import Path

import pytest

from pool_service.adapters.runtime.diagnosis import diagnose_exit
from pool_service.adapters.runtime.oom import OomWatch, oom_aware
from pool_service.core.types import Diagnosis
from tests.processes.test_spawn import limit


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    kills(tmp_path, 3)
    return tmp_path


def kills(root: Path, count: int) -> None:
    (root / "proc/vmstat").write_text(f"pgfault 9\noom_kill {count}\nthp_fault 1\n")


def test_a_kill_that_the_system_counted_was_for_memory(root: Path) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    kills(root, 4)
    diagnosis, message = diagnose(None, 9, ())
    assert diagnosis is Diagnosis.OUT_OF_MEMORY
    assert "memory" in message


def test_a_kill_that_it_did_not_count_was_somebody_elses(root: Path) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    assert diagnose(None, 9, ())[0] is Diagnosis.CRASHED


def test_each_count_explains_one_look(root: Path) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    kills(root, 4)
    assert diagnose(None, 9, ())[0] is Diagnosis.OUT_OF_MEMORY
    assert diagnose(None, 9, ())[0] is Diagnosis.CRASHED


def test_an_adopted_process_of_which_nothing_is_known_may_have_been_killed(root: Path) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    kills(root, 4)
    assert diagnose(None, None, ())[0] is Diagnosis.OUT_OF_MEMORY


@pytest.mark.parametrize(("code", "number"), [(0, None), (1, None), (None, 15), (None, 6)])
def test_another_end_is_what_it_is(root: Path, code: int | None, number: int | None) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    kills(root, 4)
    assert diagnose(code, number, ())[0] is Diagnosis.CRASHED


def test_a_system_that_counts_none_kills_none(tmp_path: Path) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(tmp_path))
    assert diagnose(None, 9, ())[0] is Diagnosis.CRASHED


def test_what_was_killed_outside_its_control_group_was_none_of_ours(root: Path) -> None:
    group = root / "sys/fs/cgroup/system.slice/pool.service"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("0::/system.slice/pool.service\n")
    (group / "memory.events").write_text("low 0\noom 1\noom_kill 1\noom_group_kill 0\n")
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    kills(root, 4)
    assert diagnose(None, 9, ())[0] is Diagnosis.CRASHED
    (group / "memory.events").write_text("low 0\noom 2\noom_kill 2\noom_group_kill 0\n")
    assert diagnose(None, 9, ())[0] is Diagnosis.OUT_OF_MEMORY


def test_a_control_group_that_counts_nothing_leaves_it_to_the_machine(root: Path) -> None:
    (root / "proc/self").mkdir()
    (root / "proc/self/cgroup").write_text("4:memory:/x\n0::/\n")
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    kills(root, 4)
    assert diagnose(None, 9, ())[0] is Diagnosis.OUT_OF_MEMORY


def test_a_look_without_a_descriptor_is_no_count(root: Path) -> None:
    diagnose = oom_aware(diagnose_exit, OomWatch(root))
    with limit(resource.RLIMIT_NOFILE, 0):
        assert diagnose(None, 9, ())[0] is Diagnosis.CRASHED
    assert diagnose(None, 9, ())[0] is Diagnosis.CRASHED
    kills(root, 4)
    assert diagnose(None, 9, ())[0] is Diagnosis.OUT_OF_MEMORY
