"""Asks for the pages of a model's files while the process that will load them comes up.

What a load reads first is then in memory already. It costs nothing but the reading that the
load would do itself: pages of files are given back when anybody needs the memory. In a
thread of its own, since the system may keep whoever asks waiting for the disk.
"""

import fcntl
import os
import queue
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

CHUNK = 1 << 20
"""Bytes to ask for at a time: Linux reads no more of one request than the readahead window of
the disk, and drops the rest in silence."""

SHARE = 0.5
"""Of the available memory: what is pushed out again before it is loaded would be read twice."""

_F_RDADVISE = 44
"""<sys/fcntl.h> of macOS, with struct radvisory {off_t ra_offset; int ra_count;}."""


def advise(descriptor: int, offset: int, count: int) -> None:
    """Ask for these bytes of a file; returns when that is under way. Raises OSError."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, _F_RDADVISE, radvisory(offset, count))
    else:
        os.posix_fadvise(descriptor, offset, count, os.POSIX_FADV_WILLNEED)


def radvisory(offset: int, count: int) -> bytes:
    """The structure that macOS takes."""
    return struct.pack("=qi4x", offset, count)


class ReadAhead:
    """Reads for one start after the other.

    available: bytes of memory that could be taken now; advise: asks for a part of a file.
    """

    def __init__(
        self,
        available: Callable[[], int],
        advise: Callable[[int, int, int], None] = advise,
    ) -> None:
        self._available = available
        self._advise = advise
        self._wanted: queue.SimpleQueue[Sequence[Path]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, files: Sequence[Path]) -> None:
        """Ask for these files, in this order; returns at once."""
        self._wanted.put(files)
        if self._thread is None:
            # It may hang on a disk that does: nobody waits for it.
            self._thread = threading.Thread(target=self._work, name="read ahead", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            self.read(self._wanted.get())

    def read(self, files: Sequence[Path]) -> None:
        """Ask for these files, as far as there is memory for them."""
        left = int(self._available() * SHARE)
        for file in files:
            # What cannot be read the load itself will say.
            with suppress(OSError):
                left -= self._read(file, left)

    def _read(self, file: Path, most: int) -> int:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = min(os.fstat(descriptor).st_size, most)
            for offset in range(0, size, CHUNK):
                self._advise(descriptor, offset, min(CHUNK, size - offset))
            return size
        finally:
            os.close(descriptor)
