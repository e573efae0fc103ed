"""Where log lines go so that nobody who logs waits for who reads them."""

import os
import select
import threading
from collections import deque
from types import TracebackType
from typing import IO, Self

import structlog

MOST_LINES = 10_000
"""How many lines wait for a reader; some megabytes. More are dropped, and counted."""

FLUSH_TIMEOUT = 1.0
"""Seconds at the end for what still waits."""

log = structlog.get_logger("pool_service.log")


class LogStream:
    """A text stream that a thread copies to another one; writing to it never blocks.

    When more than `most_lines` wait, the newest are dropped; how many is logged when
    there is room again. Leaving the context writes what waits, for a bounded time.
    """

    def __init__(self, target: IO[str] | None, most_lines: int = MOST_LINES) -> None:
        self._target = target
        self._most_lines = most_lines
        self._lines: deque[str] = deque()
        self._dropped = 0
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
        self._thread.join(FLUSH_TIMEOUT)

    def write(self, text: str) -> int:
        """Take the text over; returns its length."""
        with self._changed:
            if len(self._lines) < self._most_lines:
                self._lines.append(text)
                self._changed.notify()
            else:
                self._dropped += 1
        return len(text)

    def flush(self) -> None:
        """Nothing to wait for: the thread writes as soon as it can."""

    def isatty(self) -> bool:
        """Whether the target is a terminal."""
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
    """Past the target's own buffer, whose lock a blocked thread would hold at the exit."""
    if target is None:
        return
    try:
        descriptor = target.fileno()
        rest = memoryview(text.encode(errors="backslashreplace"))
        while rest:
            select.select([], [descriptor], [])
            rest = rest[_write(descriptor, rest) :]
    except (OSError, ValueError):
        # Nobody reads it any more: a line that cannot be written must not end the service.
        return


def _write(descriptor: int, data: memoryview) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
