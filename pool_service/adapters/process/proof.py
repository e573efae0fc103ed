"""Proves that a process is the one that a record tells of, beyond its pid and its start.

A state directory can be restored, copied or written by hand, and then its records name processes
of other people, or of the pool that it was copied from.
"""

from pathlib import Path

import psutil

from pool_service.adapters.process.identity import variable_of
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.system.own_files import has_open


def is_of_pool(pid: int, nonce: str, work_dir: Path, log_path: Path | None) -> bool:
    """Whether a process was started by a service of this state directory with this nonce.

    It works in the directory of that name; or has left it, and still carries the nonce in its
    environment or writes to its log, either of which a program can give up. Raises OSError where
    no descriptor or memory is left to look.
    """
    directory = _directory_of(pid)
    if directory is not None:
        if _is_same(directory, work_dir):
            return True
        if directory.name == nonce and directory.exists():
            # Of the state directory that this one is a copy of.
            return False
    if variable_of(pid, NONCE_VARIABLE) == nonce:
        return True
    return log_path is not None and has_open(pid, log_path)


def _directory_of(pid: int) -> Path | None:
    try:
        return Path(psutil.Process(pid).cwd())
    except (OSError, psutil.Error):
        return None


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
