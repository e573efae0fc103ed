"""Safe access to the service's own files, which other programs may have replaced.

A name may lead to a link, a FIFO, a device, another user's file or a hard link; a text may be too
long, nested too deeply or no text at all. None of these may block or crash the service.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from pool_service.adapters.system.os_errors import raise_shortage

SAFE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags of `os.open`: follow no link, do not wait for a FIFO, take no terminal, and let no child
inherit the descriptor."""

SET_ASIDE = ".set-aside"
"""The suffix that a foreign file gets when the service moves it aside to make its own."""

FULL_FSYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""The order to empty the cache of the drive, too; None on systems where fsync does."""


class NotOurs(OSError):
    """A file that the service did not make; `strerror` says why."""


def open_own(path: Path | str, flags: int, mode: int = 0o600, dir_fd: int | None = None) -> int:
    """Open a regular file of this user without hard links; return its descriptor.

    Raises:
        NotOurs: the name leads to anything else.
        OSError: the file cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | SAFE_FLAGS, mode=mode, dir_fd=dir_fd)
    except OSError as error:
        # ENXIO: a FIFO without a reader, or a socket. EMLINK: a link, on some systems.
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
            raise NotOurs(error.errno, "it is not a regular file", str(path)) from error
        raise
    flaw = _flaw(os.fstat(descriptor))
    if flaw:
        os.close(descriptor)
        raise NotOurs(errno.EPERM, flaw, str(path))
    return descriptor


def read_own(
    path: Path | str, max_bytes: int, dir_fd: int | None = None
) -> tuple[bytes, os.stat_result]:
    """Open a file by `open_own`; return at most its first `max_bytes` + 1 bytes, and its status.

    The additional byte shows that the file is too large.
    """
    with os.fdopen(open_own(path, os.O_RDONLY, dir_fd=dir_fd), "rb") as file:
        return file.read(max_bytes + 1), os.fstat(file.fileno())


def write_own(path: Path, content: bytes, *, flushes: bool = False) -> None:
    """Write a new file of this user in place of any file with its name. Raises OSError.

    flushes: wait until the content survives a power failure; the name does after
    `flush_directory`.
    """
    path.unlink(missing_ok=True)
    with os.fdopen(open_own(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
        file.write(content)
        if flushes:
            file.flush()
            flush_to_disk(file.fileno())


def remove_tree(path: Path) -> None:
    """Remove a directory with all its content. Raises OSError.

    A process can nest directories deeper than Python removes them.
    """
    try:
        shutil.rmtree(path)
    except RecursionError:
        subprocess.run(("rm", "-rf", "--", path), check=False)  # noqa: S603, S607


def flush_to_disk(descriptor: int) -> None:
    """Wait until a file survives a power failure, with all that was flushed by fsync before.

    On macOS fsync leaves it in the cache of the drive, which is emptied here. Raises OSError.
    """
    if FULL_FSYNC is not None:
        # Some file systems, such as those of a network, have only the plain call.
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, FULL_FSYNC)
            return
    os.fsync(descriptor)


def flush_directory(path: Path) -> None:
    """Wait until the names in a directory survive a power failure. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flush_to_disk(descriptor)
    except OSError as error:
        # Some file systems cannot flush a directory.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def parse_json(content: bytes | str) -> Any:  # noqa: ANN401 - whatever it says
    """Parse a JSON text. Raises ValueError for every fault of it.

    Python's own parser raises RecursionError if brackets nest by the thousand.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has this file open, as the holder of a lock on it must.

    Raises OSError if the system lacks descriptors.
    """
    try:
        status = path.stat()
        places = _open_files(pid)
    except OSError as error:
        raise_shortage(error)
        return False
    except psutil.Error:
        return False
    for place in places:
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(place), status):  # noqa: PTH116 - as it is told
                return True
    return False


def _open_files(pid: int) -> list[str]:
    """Return paths to the files that a process has open. Raises OSError, psutil.Error.

    On Linux they lead to the open file itself, whatever became of its name. macOS tells only the
    name, which may be another file's by now.
    """
    if sys.platform != "linux":
        return [one.path for one in psutil.Process(pid).open_files()]
    directory = f"/proc/{pid}/fd"
    return [f"{directory}/{name}" for name in os.listdir(directory)]  # noqa: PTH208


def _flaw(status: os.stat_result) -> str:
    """Return why a file is not the service's own; empty if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "it is not a regular file"
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if status.st_nlink > 1:
        return "it has a second name (a hard link), so what is written to it changes another file"
    return ""


def write_note(descriptor: int, note: bytes) -> None:
    """Replace the content of an open file by a note. Raises OSError.

    Writes in place, so that it works on a full disk if the file had a note before.
    """
    os.pwrite(descriptor, note, 0)
    os.ftruncate(descriptor, len(note))
