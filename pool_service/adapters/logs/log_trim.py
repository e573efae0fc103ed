"""Trimming the head of a file to which another process appends.

1. The head is replaced by a hole. No line is lost and offsets stay valid; the file's disk usage is
   bounded, but not its length.
2. If the file system has no holes, or the length nears a limit, the newest lines are moved to the
   front, in order; lines written between the last read and the cut are lost.
"""

import contextlib
import ctypes
import errno
import functools
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from pool_service.adapters.system.own_files import SAFE_FLAGS

_CHUNK_BYTES = 1024 * 1024
_MAX_LINE_BYTES = 64 * 1024

MAX_LENGTH_BYTES = 2**40
"""The greatest length of a file with a hole; ext4 permits sixteen times as much."""


def trim_file(path: Path, max_bytes: int) -> bool:
    """Trim a file of more than `max_bytes` to its newest `max_bytes / 2`; return False if shorter.

    The writer may go on meanwhile; it must have opened the file with O_APPEND. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | SAFE_FLAGS)
    try:
        begin, end = _extent(descriptor)
        if end - begin <= max_bytes:
            return False
        cut = _next_line(descriptor, end - max_bytes // 2)
        # The line feed before the cut stays, so that a reader can tell where the next line begins.
        if end > _max_length() or not _try_punch(descriptor, 0, cut - 1):
            _move_to_front(descriptor, cut, max_copy_bytes=2 * max_bytes)
    finally:
        os.close(descriptor)
    return True


def data_begin(descriptor: int) -> int:
    """Return the offset at which a file's data begins, after its hole.

    It is a multiple of the block size: the first block may begin with NUL bytes, or with the rest
    of a line. The first whole line follows the first line feed there.
    """
    try:
        return os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: the file is one hole, or empty; other errors: the file system knows no holes.
        return os.fstat(descriptor).st_size if error.errno == errno.ENXIO else 0


def _extent(descriptor: int) -> tuple[int, int]:
    """Return the offsets at which a file's data begins, at the latest, and ends."""
    status = os.fstat(descriptor)
    begin = data_begin(descriptor)
    # A part of the first block may belong to the hole.
    return (begin + status.st_blksize if begin else 0), status.st_size


def _next_line(descriptor: int, offset: int) -> int:
    """Return the offset of the first line after `offset`, or `offset` if none is near."""
    return offset + os.pread(descriptor, _MAX_LINE_BYTES, offset).find(b"\n") + 1


def _max_length() -> int:
    """Return the length in bytes from which on the file is shortened rather than punched."""
    # A server inherits the service's limit of file sizes, and SIGXFSZ would end it there.
    with contextlib.suppress(OSError):
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if soft != resource.RLIM_INFINITY:
            return min(MAX_LENGTH_BYTES, soft // 2)
    return MAX_LENGTH_BYTES


def _try_punch(descriptor: int, begin: int, end: int) -> bool:
    """Replace these bytes by a hole; return False if that is not possible."""
    try:
        _punch(descriptor, begin, end)
    except (OSError, AttributeError):
        return False
    return True


def _move_to_front(descriptor: int, begin: int, max_copy_bytes: int) -> None:
    """Move the data after `begin` to the front of the file, and truncate it there.

    max_copy_bytes: the limit of the copy, as a fast writer may append without end.
    """
    end = 0
    # A full disk may have no space for the copy; the writer's next lines matter more.
    with contextlib.suppress(OSError):
        while end < max_copy_bytes and (chunk := os.pread(descriptor, _CHUNK_BYTES, begin + end)):
            end += os.pwrite(descriptor, chunk, end)
    os.ftruncate(descriptor, end)


if sys.platform == "darwin":
    import fcntl
    import struct

    # From <sys/fcntl.h> of xnu-11417.101.15: struct fpunchhole.
    _F_PUNCHHOLE = 99
    _PUNCH = struct.Struct("=IIqq")

    def _punch(descriptor: int, begin: int, end: int) -> None:
        # Whole blocks only.
        block = os.fstatvfs(descriptor).f_frsize
        first, last = begin // block * block, end // block * block
        if last > first:
            fcntl.fcntl(descriptor, _F_PUNCHHOLE, _PUNCH.pack(0, 0, first, last - first))

else:
    # From <linux/falloc.h>.
    _KEEP_SIZE, _PUNCH_HOLE = 1, 2

    @functools.cache
    def _fallocate() -> Callable[..., int]:
        """Return the C library's fallocate; Python has only posix_fallocate."""
        function = ctypes.CDLL(None, use_errno=True).fallocate
        function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return function

    def _punch(descriptor: int, begin: int, end: int) -> None:
        if _fallocate()(descriptor, _KEEP_SIZE | _PUNCH_HOLE, begin, end - begin):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
