"""Search for a server's descendants by the files that they use: its log and working directory.

Nothing else shows a descendant that has emptied its environment and leads its own session. Use of
either file is proof: only the server's processes get its log as output or know its directory. Linux
only, as on macOS the search would take several system calls for each process.
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
from pool_service.adapters.system.proc_file import read_file
from pool_service.core.types import Identity

_OUTPUTS = (1, 2)
"""The descriptors of standard output and standard error."""

_TERMINAL_FIELD = 4
"""Index in /proc/PID/stat after the program's name: tty_nr, 0 without a controlling terminal."""


@dataclass(frozen=True, slots=True)
class _File:
    """A log or directory: its real path, and its device and inode."""

    path: str
    inode: tuple[int, int]

    @classmethod
    def at(cls, path: Path | None) -> "_File | None":
        """Return the file at this path now; None if there is none."""
        try:
            return cls(os.path.realpath(path), _inode(str(path))) if path else None
        except OSError:
            return None

    def is_at(self, link: str) -> bool:
        """Return whether a link in /proc leads to this file. Raises OSError.

        The path is compared first: that is quick and cannot hang in a file system. But another
        file in another container may have the same path, so the inode is compared as well.
        """
        return os.readlink(link) == self.path and _inode(link) == self.inode  # noqa: PTH115


def find_file_users(
    log: Path | None, work_dir: Path | None, others: Collection[int] = ()
) -> frozenset[Identity]:
    """Return the processes that write to the log or run in the working directory.

    others: pids to skip. Blocking: some microseconds for each process of the user. Raises OSError
    if the system lacks descriptors.
    """
    if sys.platform != "linux":
        return frozenset()
    written, worked_in = _File.at(log), _File.at(work_dir)
    found = set[Identity]()
    for pid in set(psutil.pids()).difference(others, {os.getpid()}):
        if not _uses(pid, written, worked_in):
            continue
        before = identity_of(pid)
        # The identity is the same before and after, so the files were this process's.
        if before and _uses(pid, written, worked_in) and is_alive(before):
            found.add(before)
    return frozenset(found)


def _uses(pid: int, written: _File | None, worked_in: _File | None) -> bool:
    """Return whether a process has the log `written` as output or runs in `worked_in`."""
    try:
        if worked_in and worked_in.is_at(f"/proc/{pid}/cwd") and not _has_terminal(pid):
            return True
    except OSError as error:
        raise_shortage(error)
        # The process has ended, or is another user's or the kernel's.
        return False
    if written:
        for descriptor in _OUTPUTS:
            # The process may have closed it.
            with contextlib.suppress(OSError):
                if written.is_at(f"/proc/{pid}/fd/{descriptor}"):
                    return True
    return False


def _has_terminal(pid: int) -> bool:
    """Return whether a process has a controlling terminal.

    Such a process is a person's shell in the directory: no descendant of a server has a terminal.
    """
    stat = read_file(f"/proc/{pid}/stat")
    return stat[stat.rindex(b")") + 1 :].split()[_TERMINAL_FIELD] != b"0"


def _inode(path: str) -> tuple[int, int]:
    """Return the device and inode of the file at a path. Raises OSError."""
    status = os.stat(path)  # noqa: PTH116  # many, and mostly of /proc
    return status.st_dev, status.st_ino
