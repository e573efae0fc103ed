"""Telling a log from another one that gets its name, and perhaps its inode, later."""

import ctypes
import functools
import os
import struct
import sys
from collections.abc import Callable

_MASK = 2**64 - 1
_SPREAD = 0x9E3779B97F4A7C15
"""An odd number: each inode, and each birth, of 64 bits gives another identity."""


def file_id(descriptor: int) -> int:
    """Return a number of 64 bits that no other file has, nor gets once this one is removed.

    A file system gives the inode of a removed file to the next one at once, so that the time of the
    file's birth is a part of the number; on a file system without such times, it is the inode only.
    """
    inode = os.fstat(descriptor).st_ino
    return (_birth_ns(descriptor) * _SPREAD ^ inode) & _MASK


if sys.platform == "darwin":

    def _birth_ns(descriptor: int) -> int:
        return int(os.fstat(descriptor).st_birthtime * 1e9)

else:
    # From <linux/stat.h> and <linux/fcntl.h>: struct statx has stx_btime at byte 80.
    _STATX_BTIME, _AT_EMPTY_PATH = 0x800, 0x1000
    _STATX_BYTES, _MASK_AT, _BIRTH_AT = 256, 0, 80

    @functools.cache
    def _statx() -> Callable[..., int] | None:
        """Return the C library's statx, None if it has none; Python does not report births."""
        try:
            function = ctypes.CDLL(None).statx
        except AttributeError:
            return None
        function.argtypes = (
            ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_char_p
        )  # fmt: skip
        return function

    def _birth_ns(descriptor: int) -> int:
        """Return the time of a file's birth in ns; 0 if that is not known."""
        statx, found = _statx(), ctypes.create_string_buffer(_STATX_BYTES)
        if statx is None or statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_BTIME, found):
            return 0
        (mask,) = struct.unpack_from("=I", found, _MASK_AT)
        seconds, nanoseconds = struct.unpack_from("=qI", found, _BIRTH_AT)
        return seconds * 10**9 + nanoseconds if mask & _STATX_BTIME else 0
