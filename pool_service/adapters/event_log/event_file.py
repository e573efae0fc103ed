"""The files of the event log: two of bounded size, the newer of which is appended to."""

import os
from pathlib import Path

from pool_service.adapters.system.own_files import open_own

NEWER = "events.jsonl"
"""The file that is appended to, in the state directory."""

OLDER = "events.1.jsonl"
"""The file that `NEWER` becomes once it is full; the one before is removed by that."""

MAX_FILE_BYTES = 8 * 1024 * 1024
"""The size at which a file is full: some 25,000 lines."""


class EventFile:
    """Appends whole lines to the newer file, and begins a new one when it is full.

    Only its user can read it. Not safe for threads.
    """

    def __init__(self, directory: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._newer = directory / NEWER
        self._older = directory / OLDER
        self._max_bytes = max_bytes
        self._descriptor: int | None = None

    def append(self, lines: bytes) -> None:
        """Append lines, all or none; each ends with a line feed. Raises OSError."""
        descriptor = self._opened()
        size = os.fstat(descriptor).st_size
        if size and size + len(lines) > self._max_bytes:
            self.close()
            self._newer.replace(self._older)
            descriptor, size = self._opened(), 0
        elif size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A service was killed as it wrote: its last line must not spoil the next one.
            lines = b"\n" + lines
        try:
            _write_all(descriptor, lines)
        except OSError:
            os.ftruncate(descriptor, size)
            raise

    def close(self) -> None:
        """Close the file; the next `append` opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _opened(self) -> int:
        """Return the descriptor of the newer file; open it anew if somebody has removed it."""
        if self._descriptor is not None and os.fstat(self._descriptor).st_nlink == 0:
            self.close()
        if self._descriptor is None:
            self._descriptor = open_own(self._newer, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        return self._descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
