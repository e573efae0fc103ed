"""Memory footprints and work of process trees, on Linux and macOS.

A server's footprint includes all processes in its session, and in sessions that were started from
it. Pages of files do not count, as the system frees them when it needs memory.
"""

import contextlib
import ctypes
import os
import re
import struct
import sys
from collections.abc import Callable, Collection, Iterable, Mapping

import psutil

from pool_service.adapters.process.identity import boot_id, is_alive
from pool_service.adapters.process.processor_time import processor_seconds
from pool_service.adapters.system.proc_file import read_file
from pool_service.core.types import Identity, Work

Footprint = Callable[[int], int]
"""Returns the bytes that the process with a pid takes. Raises OSError if that cannot be read."""

_COUNTED = re.compile(r"\n(?:RssAnon|RssShmem|VmSwap):\s*(\d+)")
_RUSAGE_INFO_V2 = 2
# struct rusage_info_v2 of <sys/resource.h>: 16 bytes, then 18 numbers of 64 bits, of which the
# eighth is ri_phys_footprint, and the last are ri_diskio_bytesread and ri_diskio_byteswritten.
_RUSAGE = struct.Struct("=16x18Q")
_PHYS_FOOTPRINT = 7
_DISKIO_BYTESREAD = 16
_DISKIO_BYTESWRITTEN = 17


class Footprints:
    """Measures process trees, and remembers the origin of each session: the one that started it.

    A descendant may lead its own session. The session of its parent is read once, while the parent
    lives; a session seen before its parent's end is still attributed afterwards.
    """

    def __init__(self, footprint: Footprint | None = None) -> None:
        self._footprint = footprint or of_process
        self._origins: dict[int, int] = {}

    def of(self, trees: Mapping[Identity, Iterable[int]]) -> dict[Identity, int]:
        """Return the bytes that each process tree takes, without those of dead leaders.

        Blocking: some ten microseconds for each process.
        """
        taken: dict[Identity, int] = {}
        for leader, pids in trees.items():
            for pid in pids:
                with contextlib.suppress(OSError):
                    taken[leader] = taken.get(leader, 0) + self._footprint(pid)
        return {leader: count for leader, count in taken.items() if is_alive(leader)}

    def trees(self, leaders: Collection[Identity]) -> dict[Identity, list[int]]:
        """Return the pids of the process tree of each leader, without those that have no process.

        Another process may have a leader's pid by now; `of` checks that. Of leaders with the same
        pid the youngest gets the tree, as no other can be alive. Blocking: some microseconds for
        each process of the machine.
        """
        if not leaders:
            return {}
        here = boot_id()
        youngest_last = sorted(leaders, key=lambda one: (one.boot_id == here, one.start_time))
        by_pid = {leader.pid: leader for leader in youngest_last}
        sessions = _sessions()
        # Made anew at each call, so that ended sessions are forgotten.
        self._origins = {session: self._origin(session) for session in set(sessions.values())}
        trees: dict[Identity, list[int]] = {}
        for pid, session in sessions.items():
            leader = by_pid.get(pid) or self._leader_of(session, by_pid)
            if leader is not None:
                trees.setdefault(leader, []).append(pid)
        return trees

    def _origin(self, session: int) -> int:
        """Return the session from which this one was started; 0 if not known."""
        known = self._origins.get(session)
        if known is not None:
            return known
        try:
            parent = psutil.Process(session).ppid()
            return os.getsid(parent) if parent > 1 else 0
        except (psutil.Error, OSError):
            return 0

    def _leader_of(self, session: int, leaders: Mapping[int, Identity]) -> Identity | None:
        """Return the leader of this session, or of the nearest of its origins; None without one."""
        seen = {0}
        while session not in seen:
            if session in leaders:
                return leaders[session]
            seen.add(session)
            session = self._origins.get(session, 0)
        return None


def _sessions() -> dict[int, int]:
    """Return the session of each process, by pid, as far as the system permits."""
    sessions: dict[int, int] = {}
    for pid in psutil.pids():
        try:
            sessions[pid] = os.getsid(pid)
        except OSError:  # not `suppress`, which takes as long as the call
            continue
    return sessions


def of_status(status: str) -> int:
    """Return the bytes of a process by Linux's /proc/PID/status: memory without files, and swap.

    PSS would be more exact, but the kernel walks all pages for it and locks the process's memory
    meanwhile. Memory that a fork shares with its parent counts twice here.
    """
    return sum(map(int, _COUNTED.findall(status))) * 1024


def work_of_io(io: str, status: str) -> Work:
    """Return the reads and writes of a process by Linux's /proc/PID/io and /proc/PID/status.

    The numbers of /proc/PID/io include those of its children that have ended.
    """
    counts = dict(line.split(": ", 1) for line in io.splitlines() if ": " in line)
    mapped = [line.split()[1] for line in status.splitlines() if line.startswith("RssFile:")]
    return Work(
        requested=int(counts["rchar"]),
        from_disk=int(counts["read_bytes"]),
        written=int(counts["wchar"]),
        mapped=sum(map(int, mapped)) * 1024,
    )


def of_rusage(raw: bytes) -> tuple[int, Work]:
    """Return the footprint, the reads and the writes of a process by macOS's proc_pid_rusage.

    The footprint is ri_phys_footprint, by which the system itself judges. What is read from disks
    includes pages of mapped files; what is read from memory is not told.
    """
    numbers: tuple[int, ...] = _RUSAGE.unpack_from(raw)
    read, written = numbers[_DISKIO_BYTESREAD], numbers[_DISKIO_BYTESWRITTEN]
    return numbers[_PHYS_FOOTPRINT], Work(from_disk=read, written=written)


if sys.platform == "darwin":

    def _rusage(pid: int) -> tuple[int, Work]:
        libproc = ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
        raw = ctypes.create_string_buffer(_RUSAGE.size)
        if libproc.proc_pid_rusage(pid, _RUSAGE_INFO_V2, raw):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return of_rusage(raw.raw)

    def of_process(pid: int) -> int:
        """Return the bytes that a process takes. Raises OSError if that cannot be read."""
        return _rusage(pid)[0]

    def io_of_process(pid: int) -> Work:
        """Return what a process has read and written. Raises OSError if that cannot be told."""
        return _rusage(pid)[1]

else:

    def of_process(pid: int) -> int:
        """Return the bytes that a process takes. Raises OSError if that cannot be read."""
        return of_status(os.fsdecode(read_file(f"/proc/{pid}/status")))

    def io_of_process(pid: int) -> Work:
        """Return what a process has read and written. Raises OSError if that cannot be told."""
        io, status = (os.fsdecode(read_file(f"/proc/{pid}/{name}")) for name in ("io", "status"))
        return work_of_io(io, status)


def work_of(pids: Iterable[int]) -> Work | None:
    """Return the work of a process tree; None if nothing of it can be read. Blocking."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            found.append((pid, io_of_process(pid)))
    if not found:
        return None
    return Work(
        requested=sum(work.requested for _, work in found),
        from_disk=sum(work.from_disk for _, work in found),
        written=sum(work.written for _, work in found),
        mapped=sum(work.mapped for _, work in found),
        processor_s=processor_seconds(pid for pid, _ in found),
    )
