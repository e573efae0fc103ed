"""The writer of the event log: a thread of its own, so that the disk never holds up the pool."""

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from pool_service.adapters.event_log.event_file import MAX_FILE_BYTES, EventFile, GivenUpError
from pool_service.adapters.system.os_errors import explain

MAX_EVENTS = 10_000
"""Events buffered for a slow disk, some megabytes; further ones are dropped and counted."""

CHUNK_BYTES = 64 * 1024
"""The least size of a piece that is written at once, if there is so much."""

LONGEST_TEXT = 2000
"""Characters of a text in an event; a longer one is cut."""

FLUSH_TIMEOUT_S = 2.0
"""Time to write the buffered events when the service ends."""

log = structlog.get_logger("pool_service.events")


class EventWriter:
    """Writes events to the state directory, a line of JSON each; implements the port `Events`.

    Writing never blocks and never fails: events that cannot be written are counted, and a line in
    their place says how many are missing. Leaving the context writes the buffered events, for at
    most FLUSH_TIMEOUT_S; a write under way may end later, but nothing more is written then, as
    another writer may have followed.
    """

    def __init__(
        self, directory: Path, max_bytes: int = MAX_FILE_BYTES, max_events: int = MAX_EVENTS
    ) -> None:
        self._directory = directory
        self._file = EventFile(directory, max_bytes)
        self._max_events = max_events
        self._events: deque[tuple[float, Mapping[str, object]]] = deque()
        self._dropped = 0
        self._lost = 0
        self._taken = 0
        """Events that the thread has taken and not begun to write."""
        self._is_failing = False
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(FLUSH_TIMEOUT_S)
        if self._thread.is_alive():
            self._file.is_given_up = True
            with self._changed:
                lost = self._lost + self._taken + len(self._events) + self._dropped
            log.warning("events were lost", lines=lost, why="the disk is too slow")

    def write(self, event: Mapping[str, object], at: float | None = None) -> None:
        """Have an event written; return at once. at: its Unix time in seconds, if it is past."""
        if at is None:
            at = time.time()
        with self._changed:
            if len(self._events) < self._max_events:
                self._events.append((at, event))
                self._changed.notify()
            else:
                self._dropped += 1

    def _run(self) -> None:
        with suppress(GivenUpError):
            while self._write_buffered():
                pass
        self._file.close()

    def _write_buffered(self) -> bool:
        """Wait for events and write them; return False at the end. Raises GivenUpError."""
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closing)
            events = list(self._events)
            self._events.clear()
            self._taken = len(events)
            dropped, self._dropped = self._dropped, 0
        self._write(events)
        # They were dropped because all of `events` were buffered, so they came after these.
        self._lost += dropped
        if self._lost and not (events and self._is_failing):
            self._append([])
        if not events and self._lost:
            log.warning("events were lost", lines=self._lost)
        return bool(events)

    def _write(self, events: list[tuple[float, Mapping[str, object]]]) -> None:
        chunk: list[bytes] = []
        size = 0
        for at, event in events:
            line = _line(at, event)
            chunk.append(line)
            size += len(line)
            if size >= CHUNK_BYTES:
                self._append(chunk)
                chunk, size = [], 0
        if chunk:
            self._append(chunk)

    def _append(self, chunk: list[bytes]) -> None:
        """Write lines after the number of the lost ones; count those that cannot be written."""
        note = [_line(time.time(), {"kind": "lost", "lines": self._lost})] if self._lost else []
        lines = [*note, *chunk]
        self._taken -= len(chunk)
        while lines:
            try:
                count = self._file.append(lines)
            except OSError as error:
                # Opened again for the next ones: the fault may be that of the file.
                self._file.close()
                self._lost += len(lines) - bool(self._lost)
                if not self._is_failing:
                    log.warning("events cannot be written", why=explain(error, self._directory))
                self._is_failing = True
                return
            if self._lost:
                log.warning("events were lost", lines=self._lost)
            self._lost, self._is_failing = 0, False
            lines = lines[count:]


def _line(at: float, event: Mapping[str, object]) -> bytes:
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    values = {"ts": when.replace("+00:00", "Z"), **{key: _cut(event[key]) for key in event}}
    return json.dumps(values).encode() + b"\n"


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        return value[: LONGEST_TEXT - 1] + "…"
    return value
