"""Waiting for writes to any of several files, without cost while there are none."""

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

_EVENT_BYTES = 64 * 1024
_EVENTS_ONLY = 0x8000
"""O_EVTONLY of macOS."""

MAX_WAIT_S = 0.25
"""The longest wait where the system does not notify of writes."""

FIRST_PAUSE_S = 0.003
"""Between the first write after a quiet time (QUIET_S) and the check of the file's size."""

MAX_PAUSE_S = 0.01
"""Between two checks while files are written to steadily."""

PAUSE_PER_FILE_S = 0.0005
"""With many files the pause is at least this times their number."""

MIN_PAUSE_S = 0.002
"""Between two checks of a file that grows as fast as the machine can write."""

QUIET_S = 1.0
"""The least time without a check that counts as quiet."""


class Growth:
    """Decides how soon to check the sizes of files, by their growth.

    max_bytes: a file should not grow by much more than a quarter of that between two checks.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sizes: dict[Path, int] = {}
        self._checked_at = time.monotonic()
        self._pause = FIRST_PAUSE_S
        self._rate = 0.0

    @property
    def is_fast(self) -> bool:
        """Whether a file grows so fast that waiting for a write is pointless."""
        return self._rate > self._max_bytes

    def measure(self, paths: Iterable[Path]) -> float:
        """Measure the files and return the seconds until the next check."""
        before, passed = self._sizes, max(time.monotonic() - self._checked_at, 1e-6)
        self._sizes = {path: size_of(path) for path in paths}
        self._checked_at += passed
        growths = (size - before.get(path, size) for path, size in self._sizes.items())
        # The rate falls by half at most, as there may be no write between two quick checks.
        self._rate = max(max(growths, default=0) / passed, self._rate / 2)
        later = min(self._pause * 1.5, MAX_PAUSE_S)
        self._pause = FIRST_PAUSE_S if passed > QUIET_S else later
        pause = max(self._pause, PAUSE_PER_FILE_S * len(self._sizes))
        soon = self._max_bytes / 4 / self._rate if self._rate > 0 else pause
        return max(MIN_PAUSE_S, min(soon, pause))


def size_of(path: Path) -> int:
    """Return the length of a file in bytes; 0 if it cannot be read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class WriteNotifications(Protocol):
    """The system's notifications of writes; the descriptor becomes readable with one."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...

    def watch(self, paths: Collection[Path]) -> bool:
        """Request a notification of the next write to each file; return whether all succeeded."""
        ...

    def drain(self) -> None:
        """Discard the pending notifications."""
        ...

    def close(self) -> None:
        """Close the descriptor."""
        ...


class Writes:
    """Waits for a write to any of several files, or for `wake`. Only one thread may wait."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._notifications = _notifications()
        # The files whose next write is notified: requesting that for each takes a system call.
        self._watched: frozenset[Path] | None = None
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
            if self._notifications is not None:
                self._notifications.close()

    def wake(self) -> None:
        """End the present or the next wait. Thread-safe."""
        # A full pipe has a wake-up pending already.
        with self._closing, contextlib.suppress(BlockingIOError):
            if not self._is_closed:
                os.write(self._writer, b"!")

    def wait(self, paths: Collection[Path], timeout: float) -> bool:
        """Wait for a write to one of the files, for `wake`, or for `timeout` seconds.

        Return whether a file may have been written to since the wait before. A file that does not
        exist is watched from the next `wake` on.
        """
        # poll(), as select() is limited to low descriptors.
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if self._notifications is not None:
            poll.register(self._notifications.fileno(), select.POLLIN)
        were_watched = frozenset(paths) == self._watched
        is_notified = were_watched or self._watch(frozenset(paths))
        if poll.poll((timeout if is_notified else min(timeout, MAX_WAIT_S)) * 1000):
            self._watched = None
            self._discard()
            return True
        # A write before the files were watched is not notified.
        return not were_watched

    def _watch(self, paths: frozenset[Path]) -> bool:
        """Have the system notify of the next write to each file; return whether it will."""
        if self._notifications is None or not self._notifications.watch(paths):
            return False
        self._watched = paths
        return True

    def _discard(self) -> None:
        """Discard what has ended a wait."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, _EVENT_BYTES)
        if self._notifications is not None:
            self._notifications.drain()


class KqueueFiles(Protocol):
    """The part of the module `select` that is used where it has kqueue."""

    KQ_FILTER_VNODE: int
    KQ_NOTE_WRITE: int
    KQ_NOTE_EXTEND: int
    KQ_EV_ADD: int
    KQ_EV_ONESHOT: int

    def kqueue(self) -> Kqueue: ...
    def kevent(self, ident: int, *, filter: int, flags: int, fflags: int) -> object: ...  # noqa: A002 - its name


class KqueueNotifications:
    """macOS: a kqueue, and each file open for events only."""

    def __init__(self, api: KqueueFiles) -> None:
        self._api = api
        self._queue = api.kqueue()
        self._files: dict[Path, int] = {}

    def fileno(self) -> int:
        return self._queue.fileno()

    def watch(self, paths: Collection[Path]) -> bool:
        for path in self._files.keys() - set(paths):
            os.close(self._files.pop(path))
        return all([self._request_event(path) for path in paths])  # noqa: C419 - of each

    def _request_event(self, path: Path) -> bool:
        api = self._api
        try:
            event = api.kevent(
                self._opened(path),
                filter=api.KQ_FILTER_VNODE,
                flags=api.KQ_EV_ADD | api.KQ_EV_ONESHOT,
                fflags=api.KQ_NOTE_WRITE | api.KQ_NOTE_EXTEND,
            )
            self._queue.control([event], 0, 0)
        except FileNotFoundError:
            # A removed file needs no notification.
            return True
        except OSError:
            return False
        return True

    def _opened(self, path: Path) -> int:
        """Return a descriptor of the file that is at a path now."""
        known = self._files.get(path)
        if known is not None and os.path.samestat(os.fstat(known), path.stat()):
            return known
        self._files[path] = opened = os.open(path, _EVENTS_ONLY | os.O_CLOEXEC)
        if known is not None:
            os.close(known)
        return opened

    def drain(self) -> None:
        self._queue.control([], _EVENT_BYTES, 0)

    def close(self) -> None:
        self._queue.close()
        for descriptor in self._files.values():
            os.close(descriptor)


if sys.platform == "darwin":

    def _notifications() -> WriteNotifications | None:
        """Return the notifications of this platform; None if no kqueue can be opened."""
        try:
            return KqueueNotifications(select)
        except OSError:
            return None

else:
    # From <sys/inotify.h>.
    _MODIFY, _ONCE = 0x2, 0x80000000

    _libc = ctypes.CDLL(None, use_errno=True)

    class InotifyNotifications:
        """Linux: an inotify with one-shot watches."""

        def __init__(self, descriptor: int) -> None:
            self._descriptor = descriptor

        def fileno(self) -> int:
            return self._descriptor

        def watch(self, paths: Collection[Path]) -> bool:
            return all([self._request_event(path) for path in paths])  # noqa: C419 - of each

        def _request_event(self, path: Path) -> bool:
            what = ctypes.c_uint32(_MODIFY | _ONCE)
            watch_id: int = _libc.inotify_add_watch(self._descriptor, os.fsencode(path), what)
            # ENOENT: a removed file needs no notification.
            return watch_id >= 0 or ctypes.get_errno() == errno.ENOENT

        def drain(self) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, _EVENT_BYTES)

        def close(self) -> None:
            os.close(self._descriptor)

    def _notifications() -> WriteNotifications | None:
        """Return the notifications of this platform; None if inotify is denied or exhausted."""
        descriptor: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return None if descriptor < 0 else InotifyNotifications(descriptor)
