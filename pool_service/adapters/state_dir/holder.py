"""The holder of a state directory: the note that it writes, and its lock, as others see them."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import NamedTuple

from pool_service.adapters.process.identity import MAX_PID, identity_of, is_alive
from pool_service.adapters.system.own_files import has_open, open_own, parse_json
from pool_service.core.types import Identity

LOCK = "lock"
"""The file in a state directory that its holder locks, and that has its note."""

NO_LOCK_ERRNOS = frozenset(
    {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
)
"""Errors of file systems that cannot lock a directory, or a file opened for reading."""

# The largest note that is read; a holder's note is far smaller.
_MAX_NOTE_BYTES = 64 * 1024


class Note(NamedTuple):
    """Holds what the holder of a state directory has written about itself.

    pid: of its process. addresses: where it listens, if it is a service that does.
    doing: what it does if it is no service: the rest of a sentence after its pid.
    is_ending: it is a service that ends.
    """

    pid: int
    addresses: tuple[str, ...]
    doing: str
    is_ending: bool = False


def read_note(path: Path) -> Note | None:
    """Return the newest note in a state directory: of its holder, or of an earlier one.

    None if there is none that can be read.
    """
    with contextlib.suppress(
        OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError
    ):
        descriptor = open_own(path / LOCK, os.O_RDONLY)
        try:
            read = parse_json(os.pread(descriptor, _MAX_NOTE_BYTES, 0))
        finally:
            os.close(descriptor)
        note = Note(
            pid=int(read["pid"]),
            addresses=tuple(map(str, read["addresses"])),
            doing=str(read.get("doing", "")),
            is_ending=read.get("is_ending") is True,
        )
        return note if "".join((note.doing, *note.addresses)).isprintable() else None
    return None


def is_held(path: Path) -> bool:
    """Return whether a process holds a state directory now.

    Raises OSError if that cannot be found out.
    """
    try:
        return _is_locked(path, os.O_DIRECTORY) or _is_locked(path / LOCK, os.O_NOFOLLOW)
    except FileNotFoundError:
        return False


def _is_locked(path: Path, flags: int) -> bool:
    # The shared lock may keep out a service that takes the directory in this very moment; it tries
    # again for SETTLE_S (takeover.py).
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in NO_LOCK_ERRNOS:
            raise
    finally:
        os.close(descriptor)
    return False


def holding_process(path: Path, pid: int) -> Identity | None:
    """Return the process with this pid if it is alive and has the lock file open, else None.

    A note alone is no proof: its writer may have ended, and the pid may be another program's.
    """
    identity = identity_of(pid) if 0 < pid <= MAX_PID else None
    if identity is None or not has_open(pid, path / LOCK):
        return None
    return identity if is_alive(identity) else None
