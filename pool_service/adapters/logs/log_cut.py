"""Cuts the head off a file to which another process appends.

The head becomes a hole: the writer notices nothing, no line is lost, none changes its place, and
offsets stay true. What the file takes of the disk is bounded then; its length is not. Where the
file system makes no holes, or the length comes near a limit, the newest lines are moved to the
front: in order, too, but what is written between the last look and the cut is lost.
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

from pool_service.adapters.system.own_files import SAFELY

_CHUNK = 1024 * 1024
_LONGEST_LINE = 64 * 1024

LONGEST = 2**40
"""Bytes; a file with a hole is no longer than that. ext4 ends at sixteen times as much."""


def trim_file(path: Path, max_bytes: int) -> bool:
    """Cut a file that takes more to the newer half of `max_bytes`; return whether it did.

    Its writer goes on meanwhile, at its end, for which it needs O_APPEND. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | SAFELY)
    try:
        begin, end = _extent(descriptor)
        if end - begin <= max_bytes:
            return False
        cut = _next_line(descriptor, end - max_bytes // 2)
        if end > _longest() or not _is_punched(descriptor, 0, cut):
            _move_to_front(descriptor, cut, most=2 * max_bytes)
    finally:
        os.close(descriptor)
    return True


def _extent(descriptor: int) -> tuple[int, int]:
    """Return where the data of a file begins, after its hole, and where it ends."""
    status = os.fstat(descriptor)
    try:
        begin = os.lseek(descriptor, 0, os.SEEK_DATA)
    except OSError as error:
        # ENXIO: nothing but a hole; else the file system does not tell, and makes none.
        begin = status.st_size if error.errno == errno.ENXIO else 0
    # Of the first block a part may be the hole's, if there is one.
    return (begin + status.st_blksize if begin else 0), status.st_size


def _next_line(descriptor: int, offset: int) -> int:
    """Return where the first line begins after `offset`, if that is not far."""
    return offset + os.pread(descriptor, _LONGEST_LINE, offset).find(b"\n") + 1


def _longest() -> int:
    # A server has the service's limit, and would die of one that it comes to.
    with contextlib.suppress(OSError):
        soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
        if soft != resource.RLIM_INFINITY:
            return min(LONGEST, soft // 2)
    return LONGEST


def _is_punched(descriptor: int, begin: int, end: int) -> bool:
    """Make a hole of these bytes; False where that cannot be."""
    try:
        _punch(descriptor, begin, end)
    except (OSError, AttributeError):
        return False
    return True


def _move_to_front(descriptor: int, begin: int, most: int) -> None:
    """Copy what follows `begin` to the front, in order, and end the file there.

    most: bytes that are copied, of a writer that is as fast.
    """
    end = 0
    # On a full disk there may be no room for it; the writer's next lines matter more.
    with contextlib.suppress(OSError):
        while end < most and (chunk := os.pread(descriptor, _CHUNK, begin + end)):
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
        """Return the C library's fallocate; Python has only what makes a file longer."""
        function = ctypes.CDLL(None, use_errno=True).fallocate
        function.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        return function

    def _punch(descriptor: int, begin: int, end: int) -> None:
        if _fallocate()(descriptor, _KEEP_SIZE | _PUNCH_HOLE, begin, end - begin):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
