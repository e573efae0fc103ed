"""Reads and opens files that others may have put there: none holds the service up or ends it.

A name may lead to a link, a FIFO, a device, a file of another user or one with a second name;
a text may be too long, too deep or no text at all.
"""

import contextlib
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import psutil

from pool_service.adapters.system.os_errors import raise_shortage

SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Follow no link, wait for no other end of a FIFO, and let no child have the descriptor."""

SET_ASIDE = ".set-aside"
"""Ends the name of what stood where the service needs a file of its own."""


class NotOurs(OSError):
    """The file is none that the service made; `strerror` says why."""


def open_own(path: Path | str, flags: int, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """Open a regular file of this user that has no second name; return its descriptor.

    Neither follows a link nor waits for a FIFO's other end. Raises NotOurs where it is something
    else, OSError where it cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | SAFELY, mode=mode, dir_fd=dir_fd)
    except OSError as error:
        # ENXIO: a FIFO without a reader, a socket; EMLINK: what some systems say of a link.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
            raise NotOurs(error.errno, "it is no file", str(path)) from error
        raise
    flaw = _flaw(os.fstat(descriptor))
    if flaw:
        os.close(descriptor)
        raise NotOurs(errno.EPERM, flaw, str(path))
    return descriptor


def read_own(
    path: Path | str, most: int, dir_fd: int | None = None
) -> tuple[bytes, os.stat_result]:
    """Return the content of such a file, at most `most` + 1 bytes of it, and its status."""
    with os.fdopen(open_own(path, os.O_RDONLY, dir_fd=dir_fd), "rb") as file:
        return file.read(most + 1), os.fstat(file.fileno())


def write_own(path: Path, content: bytes) -> None:
    """Make such a file with this content, in place of whatever has the name. Raises OSError."""
    path.unlink(missing_ok=True)
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401 - whatever it says
    """Return what a JSON text says. Raises ValueError whatever is wrong with it.

    Python's own parser ends with RecursionError where brackets nest by the thousand.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has this very file open, as who has a lock on it must.

    Raises OSError where no descriptor is left to look.
    """
    try:
        status = path.stat()
        opened = psutil.Process(pid).open_files()
    except OSError as error:
        raise_shortage(error)
        return False
    except psutil.Error:
        return False
    for one in opened:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(one.path), status):  # noqa: PTH116 - as it is told
                return True
    return False


def _flaw(status: os.stat_result) -> str:
    if not stat.S_ISREG(status.st_mode):
        return "it is no file"
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_nlink > 1:
        return "it has a second name (a hard link), so what is written to it changes another file"
    return ""


def write_note(descriptor: int, note: bytes) -> None:
    """Put it in place of what the file holds; on a full disk too, where there was one before.

    Raises OSError where it cannot be written.
    """
    os.pwrite(descriptor, note, 0)
    os.ftruncate(descriptor, len(note))
