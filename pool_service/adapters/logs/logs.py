"""The store of server logs: a file for each generation, bounded in number and size.

Paths are STATE/logs/<model>/<generation>.log, where <model> is the name made safe, with a hash of
it. Logs may contain the beginnings of prompts, so only the service's user can read them.
"""

import asyncio
import contextlib
import math
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Never

import structlog

from pool_service.adapters.logs.log_text import ONLY_PROBES, safe_line, short, without_probes
from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.logs.log_writes import Growth, Writes
from pool_service.adapters.system.own_files import SAFE_FLAGS
from pool_service.core.names import slug

_log = structlog.get_logger(__name__)

# The part of a log that is read for its last lines; it is kept even on a full disk.
TAIL_BYTES = 64 * 1024
# A larger part, for a log that ends with days of answers to health probes.
WIDE_TAIL_BYTES = 512 * 1024
LAST_LINES = 20
REPEAT_WARNING_S = 60.0

LONGEST_UNTRIMMED_S = 60.0
"""Sizes are checked so often even if no write is notified, as on some network file systems."""


class LogStore:
    """The log files under a state directory.

    keep: generations whose logs are kept, for each model.
    keep_models: models whose logs are kept, running ones included.
    max_bytes: a longer log is trimmed to its newest `max_bytes / 2` (`log_trim.py`): when its
        process ends, and before that some hundredths of a second after it got too long, the sooner
        the faster it grows.
    trim_interval: seconds between two checks of the free disk space while nothing is written.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        keep: int = 5,
        keep_models: int = 200,
        max_bytes: int = 16 * 1024 * 1024,
        trim_interval: float = 5.0,
    ) -> None:
        self._root = state_dir / "logs"
        self._keep = keep
        self._keep_models = keep_models
        self._max_bytes = max_bytes
        self._trim_interval = trim_interval
        # The logs of running processes.
        self._live: set[Path] = set()
        self._warned_at: dict[Path, float] = {}
        self._writes: Writes | None = None

    def create(self, model: str, generation: int) -> Path:
        """Make an empty log file for a new process, and remove the oldest logs.

        Raises OSError if the directory cannot be written or the disk has no space for a first
        block: a process that cannot write its output would fail later.
        """
        path = self.path_of(model, generation)
        directory = path.parent
        # First, as another thread may be removing logs that are not in use.
        self.adopt(path)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # An earlier service has counted generations from 1 as well.
            with _inode_kept(path):
                path.unlink(missing_ok=True)
                _claim_block(path)
            # Only a file that is there can be watched.
            self._wake_janitor()
        except OSError:
            self._live.discard(path)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        with contextlib.suppress(OSError):
            earlier = [log for log in directory.glob("*.log") if log != path]
            self._prune(earlier)
            if not earlier:
                self._prune_models()
        return path

    def path_of(self, model: str, generation: int) -> Path:
        """Return the log of one generation."""
        return self._root / slug(model) / f"{generation}.log"

    def generations(self, model: str) -> tuple[int, ...]:
        """Return the generations of a model whose logs are kept, in their order."""
        logs = (self._root / slug(model)).glob("*.log")
        return tuple(sorted(int(log.stem) for log in logs if log.stem.isdecimal()))

    def is_log_path(self, path: Path) -> bool:
        """Return whether a path has the form of a log of this store; the file may not exist."""
        return path.parent.parent == self._root and path.suffix == ".log"

    def adopt(self, path: Path) -> None:
        """Add the log of a running process to those that are trimmed."""
        self._live.add(path)
        self._wake_janitor()

    def _wake_janitor(self) -> None:
        if self._writes is not None:
            self._writes.wake()

    def remove(self, path: Path) -> None:
        """Remove the log of a process that could not be started."""
        self._live.discard(path)
        path.unlink(missing_ok=True)

    def release(self, path: Path) -> None:
        """Trim a log for the last time, as its process has ended."""
        if path in self._live:
            self._live.discard(path)
            self._trim(path, self._max_bytes)
            self._warned_at.pop(path, None)

    def trim(self) -> None:
        """Trim the logs of running processes to their limit; on a full disk, to their tails."""
        has_free_space = self._has_free_space()
        for path in tuple(self._live):
            # Trimming the last one may have freed enough space.
            has_free_space = has_free_space or self._has_free_space()
            limit = self._max_bytes if has_free_space else 2 * TAIL_BYTES
            self._trim(path, min(limit, self._max_bytes))

    def _trim(self, path: Path, max_bytes: int) -> None:
        try:
            if path.stat().st_size > max_bytes and trim_file(path, max_bytes):
                self._warn_of_trim(path)
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("cannot trim a log", path=str(path), error=str(error))

    def _warn_of_trim(self, path: Path) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(path, -math.inf) > REPEAT_WARNING_S:
            self._warned_at[path] = now
            _log.warning(
                "trimmed a log that was too large", path=str(path), max_bytes=self._max_bytes
            )

    async def run_janitor(self) -> Never:
        """Trim logs until cancelled."""
        ended = threading.Event()
        with Writes() as writes, ThreadPoolExecutor(1, "logs") as thread:
            self._writes = writes
            loop = asyncio.get_running_loop()
            try:
                await loop.run_in_executor(thread, self._trim_until, writes, ended)
            finally:
                self._writes = None
                ended.set()
                writes.wake()
        raise AssertionError("it ends by being cancelled only")

    def _trim_until(self, writes: Writes, ended: threading.Event) -> None:
        """Trim logs after writes and every LONGEST_UNTRIMMED_S, until `ended` is set."""
        growth, trimmed_at = Growth(self._max_bytes), time.monotonic()
        while not ended.is_set():
            live = tuple(self._live)
            is_written = growth.is_fast or writes.wait(live, self._trim_interval)
            if is_written:
                ended.wait(growth.measure(live))
            is_due = time.monotonic() - trimmed_at >= LONGEST_UNTRIMMED_S
            if is_written or is_due or not self._has_free_space():
                self.trim()
                trimmed_at = time.monotonic()

    def _has_free_space(self) -> bool:
        try:
            return shutil.disk_usage(self._root).free > self._max_bytes
        except OSError:
            return True

    def _prune(self, earlier: list[Path]) -> None:
        """Remove a model's oldest logs, so that `keep` are left with the new one."""
        # By age, as the generations of a fresh state directory begin again at 1.
        newest_first = sorted(earlier, key=_age_key, reverse=True)
        for path in newest_first[self._keep - 1 :]:
            path.unlink(missing_ok=True)

    def _prune_models(self) -> None:
        """Remove the logs of the models that were written to least recently."""
        directories = list(self._root.iterdir())
        excess = len(directories) - self._keep_models
        if excess <= 0:
            return
        live = {path.parent for path in tuple(self._live)}
        others = sorted((one for one in directories if one not in live), key=_written_at)
        for directory in others[:excess]:
            _remove_logs(directory)


@contextlib.contextmanager
def _inode_kept(path: Path) -> Iterator[None]:
    """Keep a file's inode from being given to a file that replaces it.

    Two files may be born at the same moment of the file system's clock, which is coarse, so their
    births do not tell them apart (`log_identity.py`).
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            # Most often there is none; that it cannot be opened is no reason to make no log.
            stack.callback(os.close, os.open(path, os.O_RDONLY | SAFE_FLAGS))
        yield


def open_for_append(path: Path) -> int:
    """Open a log for a child's output, which is appended at its end. Raises OSError."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)


def last_lines(
    path: Path, count: int = LAST_LINES, probed: Collection[str] = ()
) -> tuple[str, ...]:
    """Return the last lines of a log, the oldest first, safe to show; empty if it is unreadable.

    Access log lines of the pool's own probes and empty lines are left out, undecodable bytes and
    control characters replaced. Of a line that was overwritten (a progress bar), the last state is
    kept. A log with nothing but answers to probes gives the line ONLY_PROBES.

    Reads TAIL_BYTES, and WIDE_TAIL_BYTES if so many of their lines are left out that fewer than
    `count` remain. probed: the URL paths of the pool's probes.
    """
    with (
        contextlib.suppress(OSError),
        # By an opener, which closes the descriptor of a directory: os.fdopen leaves that open.
        open(path, "rb", opener=lambda name, _: os.open(name, os.O_RDONLY | SAFE_FLAGS)) as file,
    ):
        size = file.seek(0, os.SEEK_END)
        written = _tail(file, size, TAIL_BYTES)
        lines = without_probes(written, probed)
        if len(lines) < min(count, len(written)) and size > TAIL_BYTES:
            written = _tail(file, size, WIDE_TAIL_BYTES)
            lines = without_probes(written, probed)
        return tuple(map(short, lines[-count:])) if lines or not written else (ONLY_PROBES,)
    return ()


def _tail(file: BinaryIO, size: int, max_bytes: int) -> list[str]:
    """Return the non-empty lines in the last `max_bytes` of a log of this size."""
    file.seek(max(0, size - max_bytes))
    # The hole of a trimmed log reads as NUL bytes.
    tail = file.read(max_bytes).lstrip(b"\0")
    lines = tail.decode(errors="replace").split("\n")
    if size > max_bytes and len(lines) > 1:
        del lines[0]  # most likely not a complete one
    return [safe for line in lines if (safe := safe_line(line))]


def _age_key(log: Path) -> tuple[int, int]:
    """Return the sort key of a model's logs by age.

    The file system's clock is coarse: logs of the same moment sort by generation.
    """
    generation = int(log.stem) if log.stem.isdecimal() else 0
    return log.stat().st_mtime_ns, generation


def _written_at(directory: Path) -> int:
    """Return the time of the last write in a directory, in ns; 0 if it cannot be read."""
    with contextlib.suppress(OSError):
        return max(path.stat().st_mtime_ns for path in (directory, *directory.glob("*.log")))
    return 0


def _remove_logs(directory: Path) -> None:
    """Remove a directory's logs, and the directory if nothing else is in it."""
    with contextlib.suppress(OSError):
        for path in directory.glob("*.log"):
            path.unlink(missing_ok=True)
        directory.rmdir()


def _claim_block(path: Path) -> None:
    """Make an empty file, after a test that the disk has space for a block. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode=0o600)
    try:
        os.write(descriptor, bytes(4096))
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)
