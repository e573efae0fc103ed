"""Reading logs in parts, also while they are written to and trimmed (`log_trim.py`)."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from pool_service.access.server_keys import length_before_cut
from pool_service.adapters.logs.log_identity import file_id
from pool_service.adapters.logs.log_text import ProbeFilter, safe_line
from pool_service.adapters.logs.log_trim import data_begin
from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.system.own_files import SAFE_FLAGS
from pool_service.core.server_logs import LogPart, LogPosition, LogState

PART_BYTES = 64 * 1024
"""The most that a part is read from; a longer line is split."""

MAX_SEARCH_BYTES = 16 * 1024 * 1024
"""How far back the last lines are looked for, if most of a log are answers to probes."""

SEARCH_BYTES = PART_BYTES // 2
"""The most that is read at once to look for the last lines; with the rest of a line, a part."""

MIN_HOLE_BYTES = 4096
"""The least length of a hole at the beginning of a log: a block."""

MAX_CHARACTER_BYTES = 4
"""The most bytes of a character in UTF-8."""

CONTINUATION_BYTES = range(0x80, 0xC0)
"""The bytes of a character in UTF-8 after its first one."""

READER_THREADS = 2
"""Threads of their own, so that readers hold up one another only."""

T = TypeVar("T")


class LogReader:
    """Implements the port `Logs` for the logs of a store."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(READER_THREADS, "log-reader")

    async def generations(self, model: str) -> tuple[int, ...]:
        return await self._run(self._store.generations, model)

    async def seek(
        self, model: str, generation: int, lines: int | None, probed: Collection[str]
    ) -> LogPosition | None:
        path = self._store.path_of(model, generation)
        given_up = threading.Event()
        try:
            return await self._run(seek, path, generation, lines, ProbeFilter(probed), given_up)
        finally:
            given_up.set()

    async def states(self, logs: Sequence[tuple[str, int]]) -> list[LogState | None]:
        paths = [self._store.path_of(model, generation) for model, generation in logs]
        return await self._run(lambda: [state(path) for path in paths])

    async def read(
        self,
        model: str,
        position: LogPosition,
        probed: Collection[str],
        *,
        ended: bool,
        with_rest: bool,
    ) -> LogPart | None:
        path, probes = self._store.path_of(model, position.generation), ProbeFilter(probed)
        return await self._run(
            partial(read, path, position, probes, ended=ended, with_rest=with_rest)
        )

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def seek(
    path: Path,
    generation: int,
    lines: int | None,
    probes: ProbeFilter,
    given_up: threading.Event | None = None,
) -> LogPosition | None:
    """Return the position of the last `lines` lines of a log; see the port `Logs`.

    given_up: once set, the search ends where it is.
    """
    given_up = given_up or threading.Event()
    with suppress(FileNotFoundError), _opened(path) as descriptor:
        offset = 0 if lines is None else _offset_of_last(descriptor, lines, probes, given_up)
        return LogPosition(generation, file_id(descriptor), offset)
    return None


def state(path: Path) -> LogState | None:
    """Return the state of a log's file; see the port `Logs`."""
    try:
        return _state(path.lstat())
    except FileNotFoundError:
        return None
    except OSError:
        return LogState(0, 0, 0)


def _state(status: os.stat_result) -> LogState:
    return LogState(status.st_ino, status.st_size, status.st_mtime_ns)


def read(
    path: Path,
    position: LogPosition,
    probes: ProbeFilter,
    *,
    ended: bool,
    with_rest: bool = False,
) -> LogPart | None:
    """Return the lines after a position in a log; see the port `Logs`."""
    with suppress(FileNotFoundError), _opened(path) as descriptor:
        status, found = os.fstat(descriptor), file_id(descriptor)
        is_same = found == position.file_id
        is_there = is_same and status.st_size >= position.offset
        wanted = position.offset if is_there else 0
        offset, data, at_end = _data_from(descriptor, wanted)
        length = len(data) if ended and is_same and at_end else _length_of_lines(data)
        shown = (text for text in map(_text, _lines(data[:length])) if not probes.has(text))
        return LogPart(
            tuple(shown),
            replace(
                position,
                file_id=found,
                offset=offset + length,
                # The end that was handed out was that of another process.
                is_ended=position.is_ended and is_same,
            ),
            missed_bytes=offset - wanted,
            rest=_rest(data[length:], probes) if at_end and with_rest else "",
            at_end=at_end,
            state=_state(status),
        )
    return None


def _rest(data: bytes, probes: ProbeFilter) -> str:
    """Return an incomplete line; empty if it is the answer to a probe but for its line feed."""
    text = _text(data)
    return "" if probes.has(text) else text


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """Open a log. Raises OSError; FileNotFoundError for a link too, which is no log."""
    try:
        descriptor = os.open(path, os.O_RDONLY | SAFE_FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(errno.ENOENT, "it is a link", str(path)) from error
        raise
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _data_from(descriptor: int, offset: int) -> tuple[int, bytes, bool]:
    """Read up to PART_BYTES from `offset`, or after the hole.

    Return the offset of what was read, the bytes, and whether it reaches the end of the log.
    """
    while True:
        begin = data_begin(descriptor)
        data = os.pread(descriptor, PART_BYTES, max(offset, begin))
        # Otherwise the log was trimmed meanwhile, and what was read may be the hole.
        if begin == data_begin(descriptor):
            break
    at_end = len(data) < PART_BYTES
    is_after_hole = offset < begin or _is_hole(descriptor, offset, data)
    skipped = _length_of_hole(data) if is_after_hole else 0
    return max(offset, begin) + skipped, data[skipped:], at_end


def _is_hole(descriptor: int, offset: int, data: bytes) -> bool:
    """Return whether NUL bytes at an offset are of a hole that the file system does not tell of.

    It tells of whole blocks at most. A server may write NUL bytes, too, but the byte before its
    line is none; and not so many.
    """
    if not data.startswith(b"\0"):
        return False
    if offset:
        return os.pread(descriptor, 1, offset - 1) == b"\0"
    return data.startswith(bytes(MIN_HOLE_BYTES))


def _length_of_hole(data: bytes) -> int:
    """Return how many bytes after a hole of whole blocks are before the first whole line."""
    nuls = len(data) - len(data.lstrip(b"\0"))
    if nuls:
        # The line feed before the first line may be kept.
        return nuls + data.startswith(b"\n", nuls)
    # Where a hole cannot end within a block, the block begins within a line.
    return data.find(b"\n") + 1


def _length_of_lines(data: bytes) -> int:
    """Return the length of the complete lines, or of the part to send of a long line."""
    length = data.rfind(b"\n") + 1
    if length or len(data) < PART_BYTES:
        return length
    length = _length_of_characters(data)
    # Not within a key, which would not be found in its parts.
    return length_before_cut(data[:length]) or length


def _length_of_characters(data: bytes) -> int:
    """Return the length of the characters that are certainly complete."""
    for length in range(len(data) - 1, len(data) - MAX_CHARACTER_BYTES - 1, -1):
        if data[length] not in CONTINUATION_BYTES:
            return length
    return len(data)


def _offset_of_last(
    descriptor: int, count: int, probes: ProbeFilter, given_up: threading.Event
) -> int:
    """Return the offset of the last `count` lines that are shown; 0 if there are fewer.

    An incomplete last line is one of them.
    """
    end, begin = os.fstat(descriptor).st_size, data_begin(descriptor)
    least = max(end - MAX_SEARCH_BYTES, begin)
    offset = end
    for offset, lines in _lines_backwards(descriptor, least, end):
        shown = _count_shown(lines, probes)
        if shown >= count:
            return offset + _offset_of_shown(lines, count, probes)
        count -= shown
        if given_up.is_set():
            return offset
    return offset if least > begin else 0


def _lines_backwards(descriptor: int, least: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Yield blocks of whole lines between two offsets, the last first, each with its offset.

    Only the last line of the log may be incomplete. Unless `least` is 0, the line there is left
    out, as it may be incomplete. A line of more than SEARCH_BYTES comes in pieces, each of which
    `read` returns as one line.
    """
    rest = b""
    while end > least:
        first = max(end - SEARCH_BYTES, least)
        data = os.pread(descriptor, end - first, first) + rest
        # The last byte may be the newline of the line that begins before the data.
        begin = data.find(b"\n", 0, len(data) - 1) + 1 if first else 0
        if begin or not first or len(data) >= SEARCH_BYTES:
            yield first + begin, data[begin:]
            rest = data[:begin]
        else:
            rest = data
        end = first


def _count_shown(lines: bytes, probes: ProbeFilter) -> int:
    """Return how many lines of a block are shown."""
    others = probes.without_typical(lines)
    count = others.count(b"\n") + (others != b"" and not others.endswith(b"\n"))
    if b"GET" not in others and b"POST" not in others:
        return count
    asked = (line for line in others.split(b"\n") if b"GET" in line or b"POST" in line)
    return count - sum(probes.has(_text(line)) for line in asked)


def _offset_of_shown(lines: bytes, count: int, probes: ProbeFilter) -> int:
    """Return where in a block the last `count` lines begin that are shown; it has so many."""
    offset = len(lines)
    end = offset - lines.endswith(b"\n")
    if count == 0:
        # An incomplete line comes when it is complete.
        return lines.rfind(b"\n") + 1
    while count:
        offset = lines.rfind(b"\n", 0, end) + 1
        count -= not probes.has(_text(lines[offset:end]))
        end = offset - 1
    return offset


def _lines(data: bytes) -> list[bytes]:
    """Return the lines of some data, without their newlines."""
    return data.removesuffix(b"\n").split(b"\n") if data else []


def _text(line: bytes) -> str:
    return safe_line(line.decode(errors="replace"))
