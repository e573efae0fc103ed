"""Memory of the machine or container, on Linux and macOS."""

import ctypes
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

from pool_service.adapters.system.proc_file import text_of

BUDGET_SHARE = 0.75
"""The default memory budget of all servers, as a share of the memory, on Linux."""

LIMIT_FILES = ("memory.max", "memory.high", "memory.limit_in_bytes")
"""Limits of a control group. Above `high` the kernel throttles its processes to reclaim memory."""

USE_FILES = ("memory.current", "memory.usage_in_bytes")
"""The bytes that a control group uses, in version 2 and 1."""

STALLED_PERCENT = 10.0
"""The share of the last ten seconds in which no process could run for want of memory ("full avg10"
of Linux's PSI) from which on the machine counts as short of memory."""

AVAILABLE_PAGES = (
    "vm.page_free_count",
    "vm.page_pageable_external_count",
    "vm.page_purgeable_count",
)
"""Names of sysctl counters, readable by all users. Speculative pages are part of the external."""

CRITICAL_LEVEL = 4
"""The value of kern.memorystatus_vm_pressure_level for critical pressure."""

_GIB = 1024**3
_GIVEN_BACK = re.compile(
    r"^((?:total_)?(?:active_file|inactive_file|dirty|writeback)|file_dirty|file_writeback"
    r"|slab_reclaimable) (\d+)$",
    re.MULTILINE,
)
"""Matches the counters of a control group's memory.stat that `_cache` needs."""

_FULL = re.compile(r"^full .*?avg10=(\d+(?:\.\d+)?)", re.MULTILINE)


class MachineMemory(Protocol):
    """Reads the memory of the machine or container, anew at each call, in bytes. Blocking.

    Methods raise OSError if no descriptor is free: a container whose limits cannot be read must
    not pass for the whole machine.
    """

    def total(self) -> int:
        """Return the bytes of memory."""

    def available(self) -> int:
        """Return the bytes that can be taken without slowing other programs down."""

    def both(self) -> tuple[int, int]:
        """Return `total` and `available`, read together."""

    def pressured(self) -> bool:
        """Return whether the system reports a shortage of memory."""

    def critical(self) -> bool:
        """Return whether memory is so short that no further server may start."""

    def default_budget(self) -> int:
        """Return the bytes for all servers together if the configuration sets no budget."""

    def use_working_set(self, working_set: int) -> bool:
        """Use the bytes that Metal recommends; return whether the default budget has changed."""


def machine_memory() -> MachineMemory:
    """Return the memory of this machine."""
    return MacMemory(_sysctl) if sys.platform == "darwin" else LinuxMemory()


class LinuxMemory:
    """The machine's memory, bounded by the control groups of this process.

    root: the root of the file system; another one in tests.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._groups = root / "sys/fs/cgroup"
        self._own_groups = self._proc / "self/cgroup"
        self._pressure = self._proc / "pressure/memory"
        # What /proc tells of the own control groups, and those groups with their ancestors.
        self._own = ""
        self._found: tuple[_Group, ...] = ()

    def total(self) -> int:
        """Return the machine's memory, or the lowest limit of a control group."""
        return self.both()[0]

    def available(self) -> int:
        """Return the kernel's estimate, or the rest of the tightest control group."""
        return self.both()[1]

    def both(self) -> tuple[int, int]:
        """Return `total` and `available`, read together."""
        machine, limits = psutil.virtual_memory(), list(self._limits())
        left = [max(limit - _used(group), 0) for group, limit in limits]
        total = min([machine.total, *(limit for _, limit in limits)])
        return total, min([machine.available, *left])

    def pressured(self) -> bool:
        """Return whether the PSI of the machine or of the own control group is too high."""
        files = [self._pressure, *(group.pressure for group in self._ancestors()[:1])]
        return any(_stalled(file) >= STALLED_PERCENT for file in files)

    def critical(self) -> bool:
        """Return the same as `pressured`: stalls for a tenth of the time are critical already."""
        return self.pressured()

    def default_budget(self) -> int:
        """Return BUDGET_SHARE of the memory."""
        return int(self.total() * BUDGET_SHARE)

    def use_working_set(self, working_set: int) -> bool:
        """Do nothing and return False: Linux has no Metal."""
        del working_set
        return False

    def _limits(self) -> Iterator[tuple["_Group", int]]:
        """Yield each control group that limits this process's memory, and its limit in bytes."""
        for group in self._ancestors():
            limits = [_number(file) for file in group.limits]
            limit = min((one for one in limits if one is not None), default=None)
            if limit is not None:
                yield group, limit

    def _ancestors(self) -> Sequence["_Group"]:
        """Return the own control group and its ancestors, of cgroup version 2 and 1."""
        own = text_of(self._own_groups)
        if own != self._own:
            self._own = own
            self._found = tuple(_Group.at(group) for group in self._find_ancestors(own))
        return self._found

    def _find_ancestors(self, own: str) -> Iterator[Path]:
        for line in own.splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if controllers == "" or "memory" in controllers.split(","):
                base = self._groups / "memory" if controllers else self._groups
                group = base / path.lstrip("/")
                # In a container the path may be the host's, which does not exist there.
                inner = [group, *group.parents] if group.is_dir() else [base]
                yield from (one for one in inner if one == base or base in one.parents)


@dataclass(frozen=True, slots=True)
class _Group:
    """The files of a control group, whose paths are made once: they are read every second."""

    limits: tuple[Path, ...]
    used: tuple[Path, ...]
    stat: Path
    pressure: Path

    @classmethod
    def at(cls, directory: Path) -> "_Group":
        return cls(
            tuple(directory / name for name in LIMIT_FILES),
            tuple(directory / name for name in USE_FILES),
            directory / "memory.stat",
            directory / "memory.pressure",
        )


class MacMemory:
    """The unified memory of a Mac, which programs and Metal share. Not yet run on a Mac.

    sysctl: returns the number of a sysctl name; None if there is none.
    """

    def __init__(self, sysctl: Callable[[str], int | None]) -> None:
        self._sysctl = sysctl
        self._working_set = 0

    def total(self) -> int:
        """Return the machine's memory."""
        return psutil.virtual_memory().total

    def available(self) -> int:
        """Return free, file-backed and purgeable memory: the sum that the system itself uses.

        "Inactive" memory is no measure: it includes memory of idle programs, which would have to
        be compressed, and excludes files that were read twice.
        """
        counts = [self._sysctl(name) for name in AVAILABLE_PAGES]
        size = self._sysctl("hw.pagesize")
        if size is None or None in counts:
            return psutil.virtual_memory().available
        return size * sum(count for count in counts if count is not None)

    def both(self) -> tuple[int, int]:
        """Return `total` and `available`, read together."""
        return self.total(), self.available()

    def pressured(self) -> bool:
        """Return whether kern.memorystatus_vm_pressure_level is a warning (2) or critical (4)."""
        return (self._sysctl("kern.memorystatus_vm_pressure_level") or 1) > 1

    def critical(self) -> bool:
        """Return whether that level is critical; a loaded Mac may be at 2 for long."""
        return (self._sysctl("kern.memorystatus_vm_pressure_level") or 1) >= CRITICAL_LEVEL

    def default_budget(self) -> int:
        """Return the working set that Metal recommends (recommendedMaxWorkingSetSize).

        1. iogpu.wired_limit_mb, if set, which may happen at any time;
        2. else the bytes that Metal has reported (`use_working_set`);
        3. else the rule observed on most Macs: two thirds of a memory below 36 GiB, three quarters
           of a larger one.
        """
        wired = self._sysctl("iogpu.wired_limit_mb") or 0
        if wired > 0:
            return wired * 1024**2
        if self._working_set:
            return self._working_set
        total = self.total()
        return total * 2 // 3 if total < 36 * _GIB else total * 3 // 4

    def use_working_set(self, working_set: int) -> bool:
        """Use Metal's number instead of the rule if it is credible; see the protocol."""
        before = self.default_budget()
        if 0 < working_set <= self.total():
            self._working_set = working_set
        return self.default_budget() != before


def _sysctl(name: str) -> int | None:
    value = ctypes.create_string_buffer(8)
    size = ctypes.c_size_t(8)
    libc = ctypes.CDLL(None)
    if libc.sysctlbyname(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return None
    return int.from_bytes(value.raw[: size.value], "little")


def _stalled(file: Path) -> float:
    """Return "full avg10" of a PSI file in percent; 0 if the kernel has none."""
    match = _FULL.search(text_of(file))
    return float(match[1]) if match else 0.0


def _used(group: _Group) -> int:
    """Return the bytes that a control group uses and cannot free at once; 0 if not known."""
    used = next(filter(None, map(_number, group.used)), 0)
    return max(used - _cache(group.stat), 0) if used else 0


def _cache(file: Path) -> int:
    """Return the bytes that a control group frees when they are needed.

    These are pages of files, active or not, and kernel caches, without pages yet to be written.
    A tmpfs is anonymous memory and does not count. In cgroup version 1 the counters with the prefix
    `total_` include the groups below.
    """
    numbers = {name: int(value) for name, value in _GIVEN_BACK.findall(text_of(file))}

    def number(*names: str) -> int:
        return next((numbers[name] for name in names if name in numbers), 0)

    files = number("total_active_file", "active_file")
    files += number("total_inactive_file", "inactive_file")
    unwritten = number("file_dirty", "total_dirty") + number("file_writeback", "total_writeback")
    return max(files - unwritten, 0) + number("slab_reclaimable")


def _number(file: Path) -> int | None:
    text = text_of(file).strip()
    return int(text) if text.isdigit() else None
