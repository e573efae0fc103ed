"""Tells that one of several files is written to, at no cost while none is."""

import contextlib
import ctypes
import errno
import os
import select
import sys
import threading
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pool_service.adapters.process.exits import Kqueue

_EVENTS = 64 * 1024
_EVENTS_ONLY = 0x8000
"""O_EVTONLY of macOS."""

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

    @property
    def is_escalated(self) -> bool:
        """Return whether a file grew so fast that a write need not be waited for."""
        return self._rate > self._most

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


class Notes(Protocol):
    """What the system tells of writes; its descriptor is readable when there was one."""

    def fileno(self) -> int:
        """The descriptor."""
        ...

    def watch(self, paths: Collection[Path]) -> bool:
        """Be told, once, of the next write to each; False where that cannot be of all."""
        ...

    def drain(self) -> None:
        """Take what was told."""
        ...

    def close(self) -> None:
        """Be told no more."""
        ...


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
            os.close(self._reader)
            os.close(self._writer)
            if self._notes is not None:
                self._notes.close()

    def wake(self) -> None:
        """End the wait that is under way, or the next; from any thread."""
        # Full: then it is awake.
        with self._closing, contextlib.suppress(BlockingIOError):
            if not self._is_closed:
                os.write(self._writer, b"!")

    def wait(self, paths: Collection[Path], timeout: float) -> None:
        """Return when one is written to from now on, after `timeout` seconds, or when woken."""
        # Unlike select() for any number of a descriptor.
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if self._notes is not None:
            poll.register(self._notes.fileno(), select.POLLIN)
        if self._notes is None or not self._notes.watch(paths):
            timeout = min(timeout, PACE)
        poll.poll(timeout * 1000)
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, _EVENTS)
        if self._notes is not None:
            self._notes.drain()


class KqueueFiles(Protocol):
    """What is used of the module `select` where it has kqueue."""

    KQ_FILTER_VNODE: int
    KQ_NOTE_WRITE: int
    KQ_NOTE_EXTEND: int
    KQ_EV_ADD: int
    KQ_EV_ONESHOT: int

    def kqueue(self) -> Kqueue: ...
    def kevent(self, ident: int, *, filter: int, flags: int, fflags: int) -> object: ...  # noqa: A002 - its name


class KqueueNotes:
    """macOS: a kqueue, and each file kept open for nothing but events."""

    def __init__(self, api: KqueueFiles) -> None:
        self._api = api
        self._queue = api.kqueue()
        self._files: dict[Path, int] = {}

    def fileno(self) -> int:
        return self._queue.fileno()

    def watch(self, paths: Collection[Path]) -> bool:
        for path in self._files.keys() - set(paths):
            os.close(self._files.pop(path))
        return all([self._is_told_of(path) for path in paths])  # noqa: C419 - of each

    def _is_told_of(self, path: Path) -> bool:
        api = self._api
        try:
            if path not in self._files:
                self._files[path] = os.open(path, _EVENTS_ONLY | os.O_CLOEXEC)
            event = api.kevent(
                self._files[path],
                filter=api.KQ_FILTER_VNODE,
                flags=api.KQ_EV_ADD | api.KQ_EV_ONESHOT,
                fflags=api.KQ_NOTE_WRITE | api.KQ_NOTE_EXTEND,
            )
            self._queue.control([event], 0, 0)
        except FileNotFoundError:
            # Removed, so that it is written to by nobody that matters.
            return True
        except OSError:
            return False
        return True

    def drain(self) -> None:
        self._queue.control([], _EVENTS, 0)

    def close(self) -> None:
        self._queue.close()
        for descriptor in self._files.values():
            os.close(descriptor)


if sys.platform == "darwin":

    def _notes() -> Notes | None:
        """Return this platform's notes; None where there are none left."""
        try:
            return KqueueNotes(select)
        except OSError:
            return None

else:
    # From <sys/inotify.h>.
    _MODIFY, _ONCE = 0x2, 0x80000000

    _libc = ctypes.CDLL(None, use_errno=True)

    class InotifyNotes:
        """Linux: an inotify, whose every watch ends by what it tells."""

        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor

        def fileno(self) -> int:
            return self._descriptor

        def watch(self, paths: Collection[Path]) -> bool:
            return all([self._is_told_of(path) for path in paths])  # noqa: C419 - of each

        def _is_told_of(self, path: Path) -> bool:
            what = ctypes.c_uint32(_MODIFY | _ONCE)
            told: int = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), what)
            # Removed, so that it is written to by nobody that matters.
            return told >= 0 or ctypes.get_errno() == errno.ENOENT

        def drain(self) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, _EVENTS)

        def close(self) -> None:
            os.close(self._descriptor)

    def _notes() -> Notes | None:
        """Return this platform's notes; None where none are left, or they are forbidden."""
        descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return None if descriptor < 0 else InotifyNotes(descriptor)
