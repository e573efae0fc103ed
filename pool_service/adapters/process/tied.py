"""Finds what a server left behind by what that still holds: its log, or its working directory.

A process may empty its environment and lead a session of its own; then nothing else tells whose
it is. Both are proof: nobody but the server gets its log as output, or is told of its directory.
Linux only: macOS would be asked for each process by several calls.
"""

import contextlib
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import psutil

from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.system.os_errors import raise_shortage
from pool_service.adapters.system.proc_file import read
from pool_service.core.types import Identity

_OUTPUTS = (1, 2)
_TERMINAL_FIELD = 4
"""Of /proc/PID/stat, after the program's name: 0 where there is no controlling terminal."""


@dataclass(frozen=True, slots=True)
class _File:
    """Names a log or directory: by its real path, and by its device and inode."""

    path: str
    number: tuple[int, int]

    @classmethod
    def at(cls, path: Path | None) -> "_File | None":
        """Return what is there now; None: nothing."""
        try:
            return cls(os.path.realpath(path), _number(str(path))) if path else None
        except OSError:
            return None

    def is_at(self, link: str) -> bool:
        """Return whether a link of /proc leads to it.

        By its name first, which is quicker, and asks no file system, of which one may hang; but
        in another container another file may have the same. Raises OSError.
        """
        return os.readlink(link) == self.path and _number(link) == self.number  # noqa: PTH115


def tied_to(
    log: Path | None, work_dir: Path | None, others: Collection[int] = ()
) -> frozenset[Identity]:
    """Return the processes that write to the log or work in the directory.

    others: pids of which it is known that they are none of them. Blocking: some microseconds for
    each process of the user. Raises OSError where no descriptor is left to look.
    """
    if sys.platform != "linux":
        return frozenset()
    written, worked_in = _File.at(log), _File.at(work_dir)
    found = set[Identity]()
    for pid in set(psutil.pids()).difference(others, {os.getpid()}):
        if not _is_tied(pid, written, worked_in):
            continue
        before = identity_of(pid)
        # The same before and after, so that it was this one's files that were seen.
        if before and _is_tied(pid, written, worked_in) and is_alive(before):
            found.add(before)
    return frozenset(found)


def _is_tied(pid: int, written: _File | None, worked_in: _File | None) -> bool:
    try:
        if worked_in and worked_in.is_at(f"/proc/{pid}/cwd") and not _has_terminal(pid):
            return True
    except OSError as error:
        raise_shortage(error)
        # Ended, another user's, or the kernel's own.
        return False
    if written:
        for number in _OUTPUTS:
            # One may be closed.
            with contextlib.suppress(OSError):
                if written.is_at(f"/proc/{pid}/fd/{number}"):
                    return True
    return False


def _has_terminal(pid: int) -> bool:
    """Return whether it has one: a person looking around; no descendant of a server has."""
    stat = read(f"/proc/{pid}/stat")
    return stat[stat.rindex(b")") + 1 :].split()[_TERMINAL_FIELD] != b"0"


def _number(path: str) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116  # many, and mostly of /proc
    return status.st_dev, status.st_ino
