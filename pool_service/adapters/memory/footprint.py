"""What processes take of memory: what differs between Linux and macOS.

Of a server all counts that is in the session of its process, or in one that was begun in it. On
both systems pages of files do not count, which the system gives back when it needs them.
"""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Callable, Collection, Mapping

import psutil

from pool_service.adapters.process.identity import is_alive
from pool_service.adapters.system.proc_file import read
from pool_service.core.types import Identity

Footprint = Callable[[int], int]
"""Bytes that one process takes, by its pid. Raises OSError where that cannot be told."""

_COUNTED = ("RssAnon:", "RssShmem:", "VmSwap:")
_RUSAGE_INFO_V0 = 0
# struct rusage_info_v0 of <sys/resource.h>: 16 bytes, then ten numbers of 64 bits, of which
# the eighth is ri_phys_footprint.
_RUSAGE = struct.Struct("=16x10Q")
_PHYS_FOOTPRINT = 7


class Footprints:
    """Measures servers with all that they started, and remembers which session began in which.

    A process of a server may lead a session of its own. Its parent is asked for once, while it
    is there: one that was seen before its parent ended still counts.
    """

    def __init__(self, footprint: Footprint | None = None) -> None:
        self._footprint = footprint or of_process
        self._began_in: dict[int, int] = {}

    def of(self, leaders: Collection[Identity]) -> dict[Identity, int]:
        """Return the bytes that each of these processes takes with its own, while it is alive.

        Blocking: some ten microseconds for each process of the machine, and of the servers.
        """
        by_pid = {leader.pid: leader for leader in leaders if is_alive(leader)}
        sessions = _sessions()
        began_in = {session: self._origin(session) for session in set(sessions.values())}
        self._began_in = began_in
        taken: dict[Identity, int] = {}
        for pid, session in sessions.items():
            leader = by_pid.get(pid) or self._leader_of(session, by_pid)
            if leader is not None:
                with contextlib.suppress(OSError):
                    taken[leader] = taken.get(leader, 0) + self._footprint(pid)
        return {leader: count for leader, count in taken.items() if is_alive(leader)}

    def _origin(self, session: int) -> int:
        """Return the session in which the leader of this one was started; 0: not known."""
        known = self._began_in.get(session)
        if known is not None:
            return known
        try:
            parent = psutil.Process(session).ppid()
            return os.getsid(parent) if parent > 1 else 0
        except (psutil.Error, OSError):
            return 0

    def _leader_of(self, session: int, leaders: Mapping[int, Identity]) -> Identity | None:
        seen = {0}
        while session not in seen:
            if session in leaders:
                return leaders[session]
            seen.add(session)
            session = self._began_in.get(session, 0)
        return None


def _sessions() -> dict[int, int]:
    """Return the session of each process that may be looked at."""
    sessions: dict[int, int] = {}
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            sessions[pid] = os.getsid(pid)
    return sessions


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
