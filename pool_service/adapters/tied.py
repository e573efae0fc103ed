"""Finds what a server left behind by what that still holds: its log, or its working directory.

A process may empty its environment and lead a session of its own; then nothing else tells whose
it is. Both are proof: nobody but the server gets its log as output, or is told of its directory.
Linux only: macOS would be asked for each process by several calls.
"""

import contextlib
import os
import sys
from collections.abc import Collection
from pathlib import Path

import psutil

from pool_service.adapters.identity import identity_of, is_alive
from pool_service.adapters.proc_file import read
from pool_service.core.types import Identity

_OUTPUTS = (1, 2)
_TERMINAL_FIELD = 4
"""Of /proc/PID/stat, after the program's name: 0 where there is no controlling terminal."""

_File = tuple[int, int]
"""Device and inode."""


def tied_to(
    log: Path | None, work_dir: Path | None, others: Collection[int] = ()
) -> frozenset[Identity]:
    """Return the processes that write to the log or work in the directory.

    others: pids of which it is known that they are none of them. Blocking: some microseconds for
    each process of the user.
    """
    if sys.platform != "linux":
        return frozenset()
    written, worked_in = _file(log), _file(work_dir)
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
    # Ended, or another user's.
    with contextlib.suppress(OSError):
        if worked_in and _file(f"/proc/{pid}/cwd") == worked_in and not _has_terminal(pid):
            return True
    return written is not None and any(_file(f"/proc/{pid}/fd/{n}") == written for n in _OUTPUTS)


def _has_terminal(pid: int) -> bool:
    """A person may look into the directory; no descendant of a server has a terminal."""
    stat = read(f"/proc/{pid}/stat")
    return stat[stat.rindex(b")") + 1 :].split()[_TERMINAL_FIELD] != b"0"


def _file(path: "Path | str | None") -> _File | None:
    try:
        status = os.stat(path) if path else None  # noqa: PTH116  # many, and mostly of /proc
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None
