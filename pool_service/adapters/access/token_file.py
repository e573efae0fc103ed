"""The file of tokens: written by `pool-service token`, and read by the service when it changes.

It has the digests of tokens, never a token. A service that cannot read it lets in nobody by a token
of it, and says why in its log.
"""

import asyncio
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from pool_service.access.clients import Client
from pool_service.access.token_records import (
    TokenFileInvalid,
    TokenRecord,
    content_of,
    records_of,
)
from pool_service.adapters.system.own_files import (
    NotOurs,
    flush_directory,
    open_own,
    parse_json,
    read_own,
    write_own,
)

FILE_NAME = "tokens.json"
"""In the state directory."""

MAX_BYTES = 1024 * 1024
"""Some two thousand clients."""

CHECK_INTERVAL_S = 1.0
"""The time for which the content counts without another look at the file."""

_OTHERS = 0o077

log = structlog.get_logger("pool_service.access")


def read(path: Path) -> tuple[TokenRecord, ...]:
    """Return the records of a file; none if there is no file. Blocking.

    Raises TokenFileInvalid if its content or its owner or mode is wrong, or OSError.
    """
    try:
        content, status = read_own(path, MAX_BYTES)
    except FileNotFoundError:
        return ()
    except NotOurs as error:
        raise TokenFileInvalid(str(error.strerror)) from error
    if status.st_mode & _OTHERS:
        raise TokenFileInvalid(f"others may read or write it; run: chmod 600 '{path}'")
    if len(content) > MAX_BYTES:
        raise TokenFileInvalid(f"it has more than {MAX_BYTES} bytes")
    try:
        return records_of(parse_json(content))
    except TokenFileInvalid:
        raise
    except ValueError as error:
        raise TokenFileInvalid(f"it is no JSON: {error}") from error


@contextmanager
def changing(path: Path) -> Iterator[list[TokenRecord]]:
    """Give the records of a file to be changed in the block, and write them at its end. Blocking.

    Two programs that change it wait for each other. If the block raises an error, nothing is
    written. Raises TokenFileInvalid or OSError.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = open_own(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = list(read(path))
        yield records
        _write(path, records)
    finally:
        os.close(lock)


def _write(path: Path, records: list[TokenRecord]) -> None:
    """Replace the file, so that a reader sees the old or the new content whole."""
    content = json.dumps(content_of(records), indent=1).encode()
    if len(content) > MAX_BYTES:
        raise TokenFileInvalid(f"it would have more than {MAX_BYTES} bytes")
    beside = path.with_suffix(".new")
    write_own(beside, content, flushes=True)
    beside.replace(path)
    flush_directory(path.parent)


class TokenFile:
    """Follows the file of a running service.

    apply: receives the clients of the file, at first and whenever they change.
    """

    def __init__(self, path: Path, apply: Callable[[tuple[Client, ...]], None]) -> None:
        self._path = path
        self._apply = apply
        self._checked_at = -float("inf")
        self._seen: tuple[int, int, int] | None = None
        self._flaw = ""
        self._one_at_a_time = asyncio.Lock()

    async def refresh(self) -> None:
        """Apply the file if it has changed, with at most one look at it each CHECK_INTERVAL_S.

        For calls that show a token: a new token works and a revoked one ends within a second.
        """
        if time.monotonic() < self._checked_at + CHECK_INTERVAL_S:
            return
        async with self._one_at_a_time:
            if time.monotonic() < self._checked_at + CHECK_INTERVAL_S:
                return
            # In a thread, as a slow disk would hold up the loop.
            clients = await asyncio.to_thread(self._changed)
            self._checked_at = time.monotonic()
            if clients is not None:
                self._apply(clients)

    def _changed(self) -> tuple[Client, ...] | None:
        """Return the clients of the file; None if it is as before. Blocking."""
        try:
            status = self._path.lstat()
            seen = status.st_ino, status.st_mtime_ns, status.st_ctime_ns
        except FileNotFoundError:
            seen = (0, 0, 0)
        except OSError as error:
            return self._without(f"{error.strerror}")
        if seen == self._seen:
            return None
        try:
            clients = tuple(record.client for record in read(self._path))
        except (TokenFileInvalid, OSError) as error:
            return self._without(str(error))
        self._seen, self._flaw = seen, ""
        return clients

    def _without(self, flaw: str) -> tuple[Client, ...] | None:
        """Return no clients, once for each flaw: whom the file lets in is not known."""
        if flaw == self._flaw:
            return None
        self._seen, self._flaw = None, flaw
        log.error("the file of tokens cannot be read, so it lets nobody in", why=flaw)
        return ()
