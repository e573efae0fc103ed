"""The reader of the event log; needs no service, and may run while one writes."""

import json
import os
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pool_service.adapters.event_log.event_file import NEWER, OLDER
from pool_service.adapters.system.own_files import SAFE_FLAGS, parse_json

Event = dict[str, Any]

POLL_INTERVAL_S = 0.25
"""The time between two looks for new events while they are followed."""

READ_BYTES = 1024 * 1024


def read_events(directory: Path, *, follow: bool = False) -> Generator[Event | None]:
    """Yield the events in a state directory, the oldest first; leave out lines that are none.

    Yields None whenever there are no more events so far: once, or with `follow` before each wait
    for new ones, which it yields over rotations until it is closed. Raises OSError.
    """
    with ExitStack() as files:
        older, newer = _opened(directory, files)
        yield from older.complete()
        yield from newer.new()
        while follow:
            yield None
            time.sleep(POLL_INTERVAL_S)
            older, newer = yield from _after_rotation(directory, older, newer, files)
            yield from newer.new()
        yield from newer.complete()
    yield None


def _opened(directory: Path, files: ExitStack) -> tuple["_Lines", "_Lines"]:
    """Return the older and the newer file, opened until `files` is closed."""
    older, newer = _Lines(), _Lines()
    # The newer one first: if they are rotated in between, the same file has both names, and what
    # was written since is in a third one.
    for lines, name in ((newer, NEWER), (older, OLDER)):
        files.callback(lines.close)
        lines.open(directory / name)
    if older.file_id == newer.file_id:
        older.close()
    return older, newer


def _after_rotation(
    directory: Path, older: "_Lines", newer: "_Lines", files: ExitStack
) -> Generator[Event, None, tuple["_Lines", "_Lines"]]:
    """Return the two files to go on with; yield what is left of those before the newer one.

    Both are kept open, so that no other file gets the id of one that was read.
    """
    present = _file_id(directory / NEWER)
    if present is None or present == newer.file_id:
        return older, newer
    yield from newer.complete()
    next_older, next_newer = _opened(directory, files)
    if next_newer.file_id is None:
        # It was removed this moment.
        next_older.close()
        return older, newer
    if next_older.file_id not in (older.file_id, newer.file_id):
        # Rotated twice meanwhile.
        yield from next_older.complete()
    older.close()
    newer.close()
    return next_older, next_newer


class _Lines:
    """The lines of one file, read as they are written."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._offset = 0
        """The end of the last line that was complete."""
        self.file_id: tuple[int, int] | None = None

    def open(self, path: Path) -> None:
        """Open a file; there is nothing to read if it does not exist. Raises OSError."""
        try:
            self._descriptor = os.open(path, os.O_RDONLY | SAFE_FLAGS)
        except FileNotFoundError:
            return
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            return
        self.file_id = status.st_dev, status.st_ino

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor, self._offset, self.file_id = None, 0, None

    def new(self) -> Iterator[Event]:
        """Yield the events of the lines that were completed since the last call.

        An incomplete line is read again once it is complete: on a full disk, the writer takes back
        what it has written of it.
        """
        while data := self._unread():
            length = data.rfind(b"\n") + 1
            if not length and len(data) == READ_BYTES:
                # What is so long is no event.
                length = len(data)
            if not length:
                return
            self._offset += length
            yield from _events(data[:length].split(b"\n"))

    def _unread(self) -> bytes:
        """Return the data after the last complete line, at most READ_BYTES."""
        if self._descriptor is None:
            return b""
        if os.fstat(self._descriptor).st_size < self._offset:
            # Somebody has emptied the file.
            self._offset = 0
        return os.pread(self._descriptor, READ_BYTES, self._offset)

    def complete(self) -> Iterator[Event]:
        """Yield the rest of the events, that of an incomplete last line included."""
        yield from self.new()
        rest = self._unread()
        self._offset += len(rest)
        yield from _events([rest])


def _file_id(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _events(lines: list[bytes]) -> Iterator[Event]:
    """Yield what the lines say; a line torn by a crash, or changed by somebody, says nothing."""
    for line in lines:
        try:
            event = parse_json(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("ts"), str):
            yield event


def as_json(event: Event) -> str:
    """Return an event as it is in the file, in ASCII on one line."""
    return json.dumps(event)
