"""Proof that a recorded process belongs to this pool, beyond its pid and start time.

A state directory can be restored, copied or edited by hand; its records then name processes of
other programs, or of the pool that it was copied from.
"""

from pathlib import Path

import psutil

from pool_service.adapters.process.identity import variable_of
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.system.own_files import has_open


def is_of_pool(
    pid: int, nonce: str, work_dir: Path, log_path: Path | None, *, grouped: bool = False
) -> bool:
    """Return whether a service of this state directory started the process with this nonce.

    1. It is proven if the process runs in `work_dir`.
    2. It is refuted if the process runs in another state directory's directory of this nonce.
    3. It is proven if the process has the nonce in its environment, or the log open, or is in the
       control group of this nonce (grouped).

    One proof suffices, as a program may change its directory, its environment or its open files.

    Raises OSError if the system lacks descriptors or memory.
    """
    directory = _directory_of(pid)
    if directory is not None:
        if _is_same(directory, work_dir):
            return True
        if directory.name == nonce and directory.exists():
            # It belongs to the state directory from which this one was copied.
            return False
    if grouped or variable_of(pid, NONCE_VARIABLE) == nonce:
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
