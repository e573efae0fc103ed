"""What processes take of memory: what differs between Linux and macOS.

Of a server all counts that is in the group or the session of its process. On both systems
pages of files do not count, which the system gives back when it needs them.
"""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Callable, Collection

import psutil

from pool_service.adapters.identity import is_alive
from pool_service.adapters.proc_file import read
from pool_service.core.types import Identity

Footprint = Callable[[int], int]
"""Bytes that one process takes, by its pid. Raises OSError where that cannot be told."""

_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")
_RUSAGE_INFO_V0 = 0
# struct rusage_info_v0 of <sys/resource.h>: 16 bytes, then ten numbers of 64 bits, of which
# the eighth is ri_phys_footprint.
_RUSAGE = struct.Struct("=16x10Q")
_PHYS_FOOTPRINT = 7


def footprints(
    leaders: Collection[Identity], footprint: Footprint | None = None
) -> dict[Identity, int]:
    """Bytes that each of these processes takes with its group and session, while it is alive.

    Blocking: some ten microseconds for each process of the machine, and of the servers.
    """
    footprint = footprint or of_process
    by_pid = {leader.pid: leader for leader in leaders if is_alive(leader)}
    taken: dict[Identity, int] = {}
    for pid in psutil.pids():
        leader = by_pid.get(pid) or _leader_of(pid, by_pid)
        if leader is not None:
            with contextlib.suppress(OSError):
                taken[leader] = taken.get(leader, 0) + footprint(pid)
    return {leader: count for leader, count in taken.items() if is_alive(leader)}


def of_status(status: str) -> int:
    """Read Linux's /proc/PID/status: private and shared memory that is no file's, and swap.

    Unlike PSS this costs the process nothing: for that the kernel walks all its pages, and
    holds up its memory meanwhile. What a fork shares with its parent counts twice.
    """
    fields = (line.split() for line in status.splitlines() if line.startswith(_COUNTED))
    return sum(int(field[1]) * 1024 for field in fields)


def of_rusage(raw: bytes) -> int:
    """Read macOS's proc_pid_rusage: what the system itself holds against the process."""
    numbers: tuple[int, ...] = _RUSAGE.unpack_from(raw)
    return numbers[_PHYS_FOOTPRINT]


if sys.platform == "darwin":

    def of_process(pid: int) -> int:
        """Bytes. Raises OSError where that cannot be told."""
        libproc = ctypes.CDLL("/usr/lib/libproc.dylib", use_errno=True)
        raw = ctypes.create_string_buffer(_RUSAGE.size)
        if libproc.proc_pid_rusage(pid, _RUSAGE_INFO_V0, raw):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return of_rusage(raw.raw)

else:

    def of_process(pid: int) -> int:
        """Bytes. Raises OSError where that cannot be told."""
        return of_status(os.fsdecode(read(f"/proc/{pid}/status")))


def _leader_of(pid: int, leaders: dict[int, Identity]) -> Identity | None:
    try:
        return leaders.get(os.getsid(pid))
    except OSError:
        return None
