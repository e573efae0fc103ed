"""Tells that one of several files is written to, at no cost while none is."""

import contextlib
import ctypes
import errno
import os
import select
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

_EVENTS = 64 * 1024

PACE = 0.25
"""Seconds after which there may have been a write, where the system does not tell of one."""

FIRST_MOMENT = 0.003
"""Seconds from a write until its file is looked at, when nothing was written for a while."""

LAST_MOMENT = 0.01
"""Seconds from one look to the next while little is written all the time. Of many files each
takes"""

MOMENT_SHARE = 0.0005
"""so many more."""

SHORTEST = 0.002
"""Seconds between two looks at what grows as fast as the machine can write."""

A_WHILE = 1.0
"""Seconds."""


class Growth:
    """Says how soon files must be looked at, by how fast they grew.

    most: bytes; a file should not grow by much more than a quarter of that unseen.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._sizes: dict[Path, int] = {}
        self._looked_at = time.monotonic()
        self._moment = FIRST_MOMENT
        self._rate = 0.0

    def pace(self, paths: Iterable[Path]) -> float:
        """Seconds from now to the next look."""
        before, passed = self._sizes, max(time.monotonic() - self._looked_at, 1e-6)
        self._sizes = {path: size_of(path) for path in paths}
        self._looked_at += passed
        growths = (size - before.get(path, size) for path, size in self._sizes.items())
        # By degrees: between two looks in a hurry there may have been no write at all.
        self._rate = max(max(growths, default=0) / passed, self._rate / 2)
        later = min(self._moment * 1.5, LAST_MOMENT)
        self._moment = FIRST_MOMENT if passed > A_WHILE else later
        moment = max(self._moment, MOMENT_SHARE * len(self._sizes))
        soon = self._most / 4 / self._rate if self._rate > 0 else moment
        return max(SHORTEST, min(soon, moment))


def size_of(path: Path) -> int:
    """The length of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class Writes:
    """Waits for a write to any of some files, or for `wake`. Not for several threads to wait."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._notes = _notes()
        self._closing = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._closing:
            self._is_closed = True
            for descriptor in (self._reader, self._writer, self._notes):
                if descriptor is not None:
                    os.close(descriptor)

    def wake(self) -> None:
        """End the wait that is under way, or the next; from any thread."""
        # Full: then it is awake.
        with self._closing, contextlib.suppress(BlockingIOError):
            if not self._is_closed:
                os.write(self._writer, b"!")

    def wait(self, paths: Iterable[Path], timeout: float) -> None:
        """Return when one is written to from now on, after `timeout` seconds, or when woken."""
        told = [self._notes is not None and _watch(self._notes, path) for path in paths]
        if not all(told):
            timeout = min(timeout, PACE)
        # Unlike select() for any number of a descriptor.
        poll = select.poll()
        for descriptor in (self._reader, self._notes):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        readable = [descriptor for descriptor, _ in poll.poll(timeout * 1000)]
        for descriptor in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(descriptor, _EVENTS)


if sys.platform == "linux":
    # From <sys/inotify.h>.
    _NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
    _MODIFY, _ONCE = 0x2, 0x80000000

    _libc = ctypes.CDLL(None, use_errno=True)

    def _notes() -> int | None:
        """A descriptor of inotify; None where there is none left, or it is forbidden."""
        descriptor: int = _libc.inotify_init1(_NONBLOCK | _CLOEXEC)
        return None if descriptor < 0 else descriptor

    def _watch(notes: int, path: Path) -> bool:
        """Be told of the next write to a file, once; False where that cannot be."""
        what = ctypes.c_uint32(_MODIFY | _ONCE)
        told: int = _libc.inotify_add_watch(notes, os.fsencode(path), what)
        # One that was removed is written to by nobody that matters.
        return told >= 0 or ctypes.get_errno() == errno.ENOENT

else:

    def _notes() -> int | None:
        """Nothing tells of writes here."""
        return None

    def _watch(_notes: int, _path: Path) -> bool:
        return False
