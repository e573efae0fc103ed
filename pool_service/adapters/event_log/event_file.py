"""The files of the event log: two of bounded size, the newer of which is appended to."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pool_service.adapters.system.own_files import open_own

NEWER = "events.jsonl"
"""The file that is appended to, in the state directory."""

OLDER = "events.1.jsonl"
"""The file that `NEWER` becomes once it is full; the one before is removed by that."""

MAX_FILE_BYTES = 8 * 1024 * 1024
"""The size at which a file is full: some 25,000 lines."""


class GivenUpError(Exception):
    """The file may have another writer by now."""


class EventFile:
    """Appends whole lines to the newer file, and begins a new one when it is full.

    Only its user can read it. Not safe for threads, but `is_given_up` may be set by any.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._newer = directory / NEWER
        self._older = directory / OLDER
        self._max_bytes = max_bytes
        self._descriptor: int | None = None
        self.is_given_up = False
        """Whether another writer may follow, so that nothing may be changed any more."""

    def append(self, lines: Sequence[bytes]) -> int:
        """Append lines, each of which ends with a line feed; return how many the disk has taken.

        No part of another line stays if the disk lets it be cut off, and a line that was there for
        a moment is never taken back: a reader may have read it. Raises OSError if the disk takes
        none, GivenUpError.
        """
        self._check()
        data = b"".join(lines)
        descriptor = self._opened()
        size, is_torn = _end(descriptor)
        if size and size + len(data) > self._max_bytes:
            self._rotate()
            descriptor = self._opened()
            size, is_torn = _end(descriptor)
        data = b"\n" * is_torn + data
        # A slow disk may have held up each of the calls above until the next writer began.
        self._check()
        written, error = _write_all(descriptor, data)
        if error is None:
            return len(lines)
        whole = data.rfind(b"\n", 0, written) + 1
        if whole < written and not self.is_given_up:
            # If it stays, the next line begins after it, as after a crash.
            with suppress(OSError):
                os.ftruncate(descriptor, size + whole)
        count = data.count(b"\n", 0, whole) - is_torn
        if count <= 0:
            raise error
        return count

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _check(self) -> None:
        """Raise GivenUpError if nothing may be changed any more."""
        if self.is_given_up:
            raise GivenUpError

    def _rotate(self) -> None:
        """Make the newer file the older one, unless another file has its name by now."""
        if self._is_current():
            self._check()
            self._newer.replace(self._older)
        self.close()

    def _opened(self) -> int:
        """Return the descriptor of the newer file; open it anew if somebody has replaced it."""
        if self._descriptor is not None and not self._is_current():
            self.close()
        if self._descriptor is None:
            self._descriptor = open_own(self._newer, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        return self._descriptor

    def _is_current(self) -> bool:
        """Return whether the open file is the one that has the name of the newer file."""
        if self._descriptor is None:
            return False
        try:
            status = self._newer.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(self._descriptor))


def _end(descriptor: int) -> tuple[int, bool]:
    """Return the size of a file, and whether its last line has no line feed.

    A service was killed as it wrote such a line, which must not spoil the next one.
    """
    size = os.fstat(descriptor).st_size
    return size, size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _write_all(descriptor: int, data: bytes) -> tuple[int, OSError | None]:
    """Write until all is written or the disk refuses; return the number of bytes, and the error."""
    written = 0
    while written < len(data):
        try:
            written += os.write(descriptor, memoryview(data)[written:])
        except OSError as error:
            return written, error
    return written, None
