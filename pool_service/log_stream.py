"""A non-blocking log stream: code that logs never waits for a slow reader of the log."""

import os
import select
import threading
from collections import deque
from types import TracebackType
from typing import IO, Self

import structlog

MAX_LINES = 10_000
"""Lines buffered for a slow reader, some megabytes; further lines are dropped and counted."""

FLUSH_TIMEOUT_S = 1.0
"""Time to write the buffered lines when the stream is closed."""

log = structlog.get_logger("pool_service.log")


class LogStream:
    """A text stream that a thread copies to `target`; writing to it never blocks.

    While `max_lines` are buffered, new lines are dropped; their number is logged when there is
    space again. Leaving the context writes the buffered lines, for at most FLUSH_TIMEOUT_S.
    """

    def __init__(self, target: IO[str] | None, max_lines: int = MAX_LINES) -> None:
        self._target = target
        self._max_lines = max_lines
        self._lines: deque[str] = deque()
        self._dropped = 0
        self.dropped_in_total = 0
        """Lines dropped since the stream was made."""
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

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

    def write(self, text: str) -> int:
        """Buffer a text and return its length."""
        with self._changed:
            if len(self._lines) < self._max_lines:
                self._lines.append(text)
                self._changed.notify()
            else:
                self._dropped += 1
                self.dropped_in_total += 1
        return len(text)

    def flush(self) -> None:
        """Do nothing: the thread writes as soon as it can."""

    def isatty(self) -> bool:
        """Return whether the target is a terminal."""
        return self._target is not None and self._target.isatty()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._closing)
                text = "".join(self._lines)
                self._lines.clear()
                dropped, self._dropped = self._dropped, 0
            if not text:
                return
            _copy(text, self._target)
            if dropped:
                log.warning("log lines were dropped: nobody read them", lines=dropped)


def _copy(text: str, target: IO[str] | None) -> None:
    """Write a text to the target's descriptor, blocking until all is written.

    Bypasses the target's own buffer, whose lock a blocked thread would still hold at the exit.
    """
    if target is None:
        return
    try:
        descriptor = target.fileno()
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            select.select([], [descriptor], [])
            rest = rest[_write(descriptor, rest) :]
    except (OSError, ValueError):
        # The reader has gone; a line that cannot be written must not end the service.
        return


def _write(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
