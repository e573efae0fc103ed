"""The memory of the machine, or of the container: what differs between Linux and macOS."""

import ctypes
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import psutil

from pool_service.adapters.system.proc_file import text_of

BUDGET_SHARE = 0.75
"""Of the memory, for all servers together, where the system names no limit."""

LIMIT_FILES = ("memory.max", "memory.high", "memory.limit_in_bytes")
"""Of a control group: above `high` the kernel slows its processes down until they give back."""

STALLED = 10.0
"""Percent of the last ten seconds in which nothing could run for want of memory ("full
avg10" of Linux's pressure stall information): with so much the machine is short of it."""

AVAILABLE_PAGES = (
    "vm.page_free_count",
    "vm.page_pageable_external_count",
    "vm.page_purgeable_count",
)
"""Names of the system's state; anybody may read them. Speculative pages are external ones."""

CRITICAL_LEVEL = 4
"""Of kern.memorystatus_vm_pressure_level."""

_GIB = 1024**3
_GIVEN_BACK = re.compile(
    r"^((?:total_)?(?:active_file|inactive_file|dirty|writeback)|file_dirty|file_writeback"
    r"|slab_reclaimable) (\d+)$",
    re.MULTILINE,
)
"""Matches the counts of a control group's memory.stat from which `_cache` adds up what it gives
back."""

_FULL = re.compile(r"^full .*?avg10=(\d+(?:\.\d+)?)", re.MULTILINE)


class MachineMemory(Protocol):
    """Looks at it; each call looks afresh. Blocking. Bytes.

    Raises OSError where no descriptor is left: without its limits a container is the machine.
    """

    def total(self) -> int:
        """Return how much there is."""

    def available(self) -> int:
        """Return how much could be taken without anybody suffering."""

    def pressured(self) -> bool:
        """Whether the system says that it is short of memory."""

    def critical(self) -> bool:
        """Whether it is so short that nothing more may start beside what runs."""

    def default_budget(self) -> int:
        """Return how much all servers together may take where nothing is configured."""

    def recommend(self, working_set: int) -> bool:
        """Take over what Metal recommends; return whether the default budget has changed."""


def machine_memory() -> MachineMemory:
    """Return the memory of this machine."""
    return MacMemory(_sysctl) if sys.platform == "darwin" else LinuxMemory()


class LinuxMemory:
    """The machine's, bounded by the control groups that this process is in.

    root: of the file system.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._proc = root / "proc"
        self._groups = root / "sys/fs/cgroup"

    def total(self) -> int:
        """Return what /proc/meminfo says, or the least limit of a control group."""
        limits = [limit for _, limit in self._limits()]
        return min([psutil.virtual_memory().total, *limits])

    def available(self) -> int:
        """Return the kernel's estimate, or what the tightest control group has left."""
        left = [max(limit - _used(group), 0) for group, limit in self._limits()]
        return min([psutil.virtual_memory().available, *left])

    def pressured(self) -> bool:
        """Look at the pressure of the machine, and of the own control group."""
        files = [self._proc / "pressure/memory"]
        files += [group / "memory.pressure" for group in list(self._ancestors())[:1]]
        return any(_stalled(file) >= STALLED for file in files)

    def critical(self) -> bool:
        """Return the same: a tenth of the time in which nothing could run is near to the end."""
        return self.pressured()

    def default_budget(self) -> int:
        """A share of it."""
        return int(self.total() * BUDGET_SHARE)

    def recommend(self, working_set: int) -> bool:
        """Change nothing: here is no Metal."""
        del working_set
        return False

    def _limits(self) -> Iterator[tuple[Path, int]]:
        """Yield each control group that limits what there is here, and its limit."""
        for group in self._ancestors():
            limits = [_number(group / name) for name in LIMIT_FILES]
            limit = min((one for one in limits if one is not None), default=None)
            if limit is not None:
                yield group, limit

    def _ancestors(self) -> Iterator[Path]:
        """The own control group and all above it, in version 2 and in version 1."""
        for line in text_of(self._proc / "self/cgroup").splitlines():
            _, controllers, path = [*line.split(":", 2), "", ""][:3]
            if controllers == "" or "memory" in controllers.split(","):
                base = self._groups / "memory" if controllers else self._groups
                group = base / path.lstrip("/")
                # In a container the path may be that of the host, which is not there.
                inner = [group, *group.parents] if group.is_dir() else [base]
                yield from (one for one in inner if one == base or base in one.parents)


class MacMemory:
    """Unified memory: of the processors and of Metal alike. Not yet run on a Mac.

    sysctl: the number that a name of the system's state has, None if there is none.
    """

    def __init__(self, sysctl: Callable[[str], int | None]) -> None:
        self._sysctl = sysctl
        self._working_set = 0

    def total(self) -> int:
        """Return what the system says."""
        return psutil.virtual_memory().total

    def available(self) -> int:
        """Return what is free, what files take, and what programs let go by themselves.

        Not what the system calls inactive: that holds memory of programs that idle, which would
        have to be compressed, and lacks the files that were read twice. It is the sum by which
        the system itself tells how much is available.
        """
        counts = [self._sysctl(name) for name in AVAILABLE_PAGES]
        size = self._sysctl("hw.pagesize")
        if size is None or None in counts:
            return psutil.virtual_memory().available
        return size * sum(count for count in counts if count is not None)

    def pressured(self) -> bool:
        """kern.memorystatus_vm_pressure_level: 1 is normal, 2 a warning, 4 critical."""
        return (self._sysctl("kern.memorystatus_vm_pressure_level") or 1) > 1

    def critical(self) -> bool:
        """Whether that level is 4: a loaded Mac may live at 2 for long."""
        return (self._sysctl("kern.memorystatus_vm_pressure_level") or 1) >= CRITICAL_LEVEL

    def default_budget(self) -> int:
        """Return what Metal recommends to keep resident (recommendedMaxWorkingSetSize).

        iogpu.wired_limit_mb where it is set, which may be at any time; else what Metal told.
        Until it has, the rule by which most Macs were seen to have it: two thirds of a memory
        below 36 GiB, three quarters of more.
        """
        wired = self._sysctl("iogpu.wired_limit_mb") or 0
        if wired > 0:
            return wired * 1024**2
        if self._working_set:
            return self._working_set
        total = self.total()
        return total * 2 // 3 if total < 36 * _GIB else total * 3 // 4

    def recommend(self, working_set: int) -> bool:
        """Prefer it to the rule, where it is a part of the memory."""
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
    """Percent; 0 where the kernel does not tell."""
    told = _FULL.search(text_of(file))
    return float(told[1]) if told else 0.0


def _used(group: Path) -> int:
    """Return the bytes that a control group uses and cannot give back at once; 0: not told."""
    used = _number(group / "memory.current") or _number(group / "memory.usage_in_bytes") or 0
    return max(used - _cache(group / "memory.stat"), 0) if used else 0


def _cache(file: Path) -> int:
    """Return the bytes that a control group gives back when they are wanted.

    They are those of files, however often these were read, and of the kernel's caches; not what
    is yet to be written. What a tmpfs holds is no file in this sense: it is anonymous memory.
    In version 1 the sums over the groups below are the ones with a prefix.
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
