"""Claims about what is known of the machine's memory, on Linux by files and on macOS by names."""

import resource
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.memory.machine_memory import LinuxMemory, MacMemory, machine_memory
from tests.processes.test_spawn import limit

MIB = 1024**2


def tree(root: Path, files: Mapping[str, str]) -> LinuxMemory:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return LinuxMemory(root)


def group(path: str, limit: str, used: int, cached: int = 0) -> dict[str, str]:
    return {
        f"sys/fs/cgroup/{path}/memory.max": f"{limit}\n",
        f"sys/fs/cgroup/{path}/memory.current": f"{used}\n",
        f"sys/fs/cgroup/{path}/memory.stat": f"anon 1\ninactive_file {cached}\n",
    }


def test_this_machine_has_memory_and_a_budget_that_leaves_some() -> None:
    memory = machine_memory()
    assert 0 < memory.available() <= memory.total()
    assert 0 < memory.default_budget() < memory.total()


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    assert LinuxMemory(tmp_path).total() == psutil.virtual_memory().total


def test_without_a_descriptor_a_container_is_not_taken_for_the_machine(tmp_path: Path) -> None:
    memory = tree(tmp_path, {"proc/self/cgroup": "0::/\n", **group("", str(512 * MIB), MIB)})
    with limit(resource.RLIMIT_NOFILE, 0), pytest.raises(OSError, match="Too many open files"):
        list(memory._limits())
    assert memory.total() == 512 * MIB


def test_a_container_has_what_its_limit_says(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n"} | group(".", str(100 * MIB), 60 * MIB, 20 * MIB)
    memory = tree(tmp_path, files)
    assert memory.total() == 100 * MIB
    assert memory.available() == 60 * MIB, "the cache of files is given back"
    assert memory.both() == (100 * MIB, 60 * MIB)
    assert memory.default_budget() == 75 * MIB


def test_the_tightest_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/a/b/c\n"}
    files |= group("a", str(50 * MIB), 10 * MIB)
    files |= group("a/b", str(100 * MIB), 95 * MIB)
    files |= group("a/b/c", "max", 1 * MIB)
    memory = tree(tmp_path, files)
    assert memory.total() == 50 * MIB
    assert memory.available() == 5 * MIB


def test_version_1_of_control_groups_is_read_as_well(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory/docker/x"
    memory = tree(
        tmp_path,
        {
            "proc/self/cgroup": "9:cpu,cpuacct:/docker/x\n5:memory:/docker/x\n",
            f"{base}/memory.limit_in_bytes": str(100 * MIB),
            f"{base}/memory.usage_in_bytes": str(70 * MIB),
            f"{base}/memory.stat": f"cache 5\ntotal_inactive_file {10 * MIB}\n",
        },
    )
    assert memory.total() == 100 * MIB
    assert memory.available() == 40 * MIB


def test_a_path_that_is_the_hosts_is_looked_for_at_the_top(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/system.slice/docker-x\n"} | group(".", str(10 * MIB), MIB)
    assert tree(tmp_path, files).total() == 10 * MIB


@pytest.mark.parametrize(("stalled", "pressured"), [("0.00", False), ("9.99", False), ("10", True)])
def test_linux_is_short_of_memory_when_nothing_can_run_for_want_of_it(
    tmp_path: Path, stalled: str, pressured: bool
) -> None:
    told = f"some avg10=90.00 avg60=0 avg300=0 total=9\nfull avg10={stalled} avg60=0 total=9\n"
    memory = tree(tmp_path, {"proc/pressure/memory": told})
    assert memory.pressured() is pressured


def test_the_pressure_of_the_own_group_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a\n",
        "proc/pressure/memory": "full avg10=0.00 total=0\n",
        "sys/fs/cgroup/a/memory.pressure": "full avg10=50.00 total=0\n",
    }
    assert tree(tmp_path, files).pressured()


@pytest.mark.parametrize("content", ["", "full", "full avg60=1", "nonsense\n\nfull avg10=\n"])
def test_a_kernel_that_tells_no_pressure_has_none(tmp_path: Path, content: str) -> None:
    assert not tree(tmp_path, {"proc/pressure/memory": content}).pressured()


# --- macOS -----------------------------------------------------------------------------------


def mac(**values: int) -> MacMemory:
    names = {
        "kern.memorystatus_vm_pressure_level": values.get("level"),
        "iogpu.wired_limit_mb": values.get("wired"),
    }
    return MacMemory(names.get)


@pytest.mark.parametrize(("level", "pressured"), [(1, False), (2, True), (4, True)])
def test_a_mac_is_short_of_memory_from_a_warning_on(level: int, pressured: bool) -> None:
    assert mac(level=level).pressured() is pressured


def test_a_mac_that_does_not_say_is_not_short() -> None:
    assert not mac().pressured()


def test_the_limit_of_metal_that_the_operator_set_is_the_budget() -> None:
    assert mac(wired=48 * 1024).default_budget() == 48 * 1024**3


@pytest.mark.parametrize(
    ("gigabytes", "share"), [(16, 2 / 3), (35, 2 / 3), (36, 3 / 4), (64, 3 / 4), (192, 3 / 4)]
)
def test_else_it_is_what_metal_recommends(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, share: float
) -> None:
    memory = mac(wired=0)
    monkeypatch.setattr(memory, "total", lambda: gigabytes * 1024**3)
    assert memory.default_budget() == pytest.approx(share * gigabytes * 1024**3, abs=1)


def test_what_metal_told_goes_before_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = mac(wired=0)
    monkeypatch.setattr(memory, "total", lambda: 128 * 1024**3)
    assert memory.use_working_set(115_448_725_504)
    assert memory.default_budget() == 115_448_725_504
    assert not memory.use_working_set(115_448_725_504), "nothing has changed"


@pytest.mark.parametrize("told", [0, -1, 128 * 1024**3 + 1])
def test_what_cannot_be_a_part_of_the_memory_is_no_budget(
    told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = mac(wired=0)
    monkeypatch.setattr(memory, "total", lambda: 128 * 1024**3)
    assert not memory.use_working_set(told)
    assert memory.default_budget() == 96 * 1024**3


def test_a_limit_that_the_operator_sets_later_goes_before_what_metal_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: dict[str, int] = {}
    memory = MacMemory(names.get)
    monkeypatch.setattr(memory, "total", lambda: 128 * 1024**3)
    memory.use_working_set(100 * 1024**3)
    names["iogpu.wired_limit_mb"] = 120 * 1024
    assert memory.default_budget() == 120 * 1024**3


def stat(**numbers: int) -> dict[str, str]:
    """A container of 100 MiB, of which 90 are used, and what the kernel says they are."""
    files = {"proc/self/cgroup": "0::/\n"} | group(".", str(100 * MIB), 90 * MIB)
    lines = [f"{name} {count * MIB}\n" for name, count in numbers.items()]
    return files | {"sys/fs/cgroup/./memory.stat": "".join(lines)}


@pytest.mark.parametrize(
    ("numbers", "given_back"),
    [
        ({"active_file": 60}, 60),
        ({"active_file": 30, "inactive_file": 20}, 50),
        ({"active_file": 30, "slab_reclaimable": 5, "slab_unreclaimable": 9}, 35),
        ({"active_file": 30, "file_dirty": 10, "file_writeback": 5}, 15),
        ({"file": 60, "shmem": 60, "inactive_anon": 60}, 0),
        ({"inactive_file": 1, "file_dirty": 20}, 0),
        ({"unevictable": 60, "file": 60, "file_mapped": 60}, 0),
    ],
)
def test_files_are_given_back_however_often_they_were_read(
    tmp_path: Path, numbers: dict[str, int], given_back: int
) -> None:
    assert tree(tmp_path, stat(**numbers)).available() == (10 + given_back) * MIB


def test_where_processes_are_slowed_down_is_the_limit(tmp_path: Path) -> None:
    high = {"sys/fs/cgroup/./memory.high": f"{95 * MIB}\n"}
    assert tree(tmp_path, stat() | high).available() == 5 * MIB
    high = {"sys/fs/cgroup/./memory.high": "max\n"}
    assert tree(tmp_path, stat() | high).available() == 10 * MIB


def test_of_version_1_the_sums_over_all_groups_below_count(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory/x"
    numbers = {"active_file": 1, "total_active_file": 40, "total_inactive_file": 9}
    numbers |= {"total_dirty": 4, "total_shmem": 30}
    files = {
        "proc/self/cgroup": "5:memory:/x\n",
        f"{base}/memory.limit_in_bytes": f"{100 * MIB}\n",
        f"{base}/memory.usage_in_bytes": f"{90 * MIB}\n",
        f"{base}/memory.stat": "".join(f"{n} {c * MIB}\n" for n, c in numbers.items()),
    }
    assert tree(tmp_path, files).available() == 55 * MIB


@pytest.mark.parametrize(("level", "pressured", "critical"), [(1, 0, 0), (2, 1, 0), (4, 1, 1)])
def test_on_macos_only_the_fourth_level_is_critical(
    level: int, pressured: int, critical: int
) -> None:
    memory = MacMemory({"kern.memorystatus_vm_pressure_level": level}.get)
    assert (memory.pressured(), memory.critical()) == (bool(pressured), bool(critical))


def test_on_macos_files_are_available_and_idle_programs_are_not() -> None:
    pages = {
        "hw.pagesize": 16384,
        "vm.page_free_count": 1000,
        "vm.page_pageable_external_count": 500,
        "vm.page_purgeable_count": 20,
        "vm.page_pageable_internal_count": 9000,
    }
    assert MacMemory(pages.get).available() == 16384 * 1520


def test_on_a_macos_that_does_not_tell_it_is_estimated() -> None:
    some = {"hw.pagesize": 16384, "vm.page_free_count": 1000}
    assert MacMemory(some.get).available() > 0
