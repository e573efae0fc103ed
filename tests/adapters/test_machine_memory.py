"""Claims about what is known of the machine's memory, on Linux by files and on macOS by names."""

from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.machine_memory import LinuxMemory, MacMemory, machine_memory

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


def test_a_container_has_what_its_limit_says(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n"} | group(".", str(100 * MIB), 60 * MIB, 20 * MIB)
    memory = tree(tmp_path, files)
    assert memory.total() == 100 * MIB
    assert memory.available() == 60 * MIB, "the cache of files is given back"
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
    ("gigabytes", "share"), [(16, 2 / 3), (36, 2 / 3), (64, 3 / 4), (192, 3 / 4)]
)
def test_else_it_is_what_metal_recommends(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, share: float
) -> None:
    memory = mac(wired=0)
    monkeypatch.setattr(memory, "total", lambda: gigabytes * 1024**3)
    assert memory.default_budget() == pytest.approx(share * gigabytes * 1024**3, abs=1)
