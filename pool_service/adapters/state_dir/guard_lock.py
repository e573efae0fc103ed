"""One guard for a pool: a lock that the younger takes over from the older, never the reverse."""

import contextlib
import errno
import fcntl
import json
import math
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pool_service.adapters.process.identity import LARGEST_PID, identity_of, is_alive
from pool_service.adapters.system.own_files import (
    SET_ASIDE,
    NotOurs,
    has_open,
    open_own,
    parse_json,
    write_note,
)
from pool_service.core.types import Identity

GUARD_LOCK = "guard.lock"

SENT_AWAY = 5.0
"""Seconds; a guard ends within some milliseconds of its SIGTERM. One that could not write who
it is, as on a full disk, is not found at all: it ends by itself when there is no service."""

_PACE = 0.01


def take_over(state_dir: Path) -> int | None:
    """Send the guard that has the lock away, wait for it, and hold the lock instead.

    Returns the descriptor that holds it, which no child inherits; None if a younger guard has
    had the lock: that is of a later service, whose guard alone is to be there. Blocking, for
    as long as the other takes to end. Raises OSError where the file cannot be opened or locked.
    """
    me = identity_of(os.getpid())
    with _opened(state_dir) as descriptor:
        if not _lock(descriptor, state_dir / GUARD_LOCK, me):
            return None
        _write_holder(descriptor, me)
        return os.dup(descriptor)


def take_if_free(state_dir: Path) -> int | None:
    """Hold the lock where nobody has it; None at once where somebody does, who keeps it.

    None also where a later service has said that there is nothing to guard.
    """
    me = identity_of(os.getpid())
    with _opened(state_dir) as descriptor:
        if not _is_free(descriptor) or _is_for_nothing(descriptor, me):
            return None
        _write_holder(descriptor, me)
        return os.dup(descriptor)


def send_away(state_dir: Path, youngest: Identity | None) -> None:
    """End whatever guard has the lock, and wait for that; for who holds the state directory.

    youngest: the last guard that the caller has started; one that is older and has yet to
    come ends as soon as it does. Raises OSError where the file cannot be opened or locked, of
    which TimeoutError if the guard is still there after SENT_AWAY seconds.
    """
    with _opened(state_dir) as descriptor:
        _lock(descriptor, state_dir / GUARD_LOCK, None, SENT_AWAY)
        _write_holder(descriptor, youngest or identity_of(os.getpid()), is_needed=False)


@contextlib.contextmanager
def _opened(state_dir: Path) -> Iterator[int]:
    descriptor = _descriptor(state_dir / GUARD_LOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _descriptor(path: Path) -> int:
    try:
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except NotOurs:
        # Of what is there nobody can have made a lock: it is put aside.
        os.replace(path, path.with_suffix(SET_ASIDE))  # noqa: PTH105 - says what it does
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
            raise
        return open_own(path, os.O_RDONLY)


def _lock(descriptor: int, path: Path, me: Identity | None, most: float = math.inf) -> bool:
    """Hold the lock, within `most` seconds; False if it is for one that is younger than me."""
    if not _is_free(descriptor):
        holder = _holder(descriptor)
        if _is_younger(holder, me):
            return False
        _end(holder, path)
        _await(descriptor, most)
    # It may have been taken, and written to, since.
    return not _is_younger(_holder(descriptor), me)


def _await(descriptor: int, most: float) -> None:
    if most == math.inf:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    until = time.monotonic() + most
    while not _is_free(descriptor):
        if time.monotonic() >= until:
            raise TimeoutError(
                errno.ETIMEDOUT, f"a guard has {GUARD_LOCK} and does not end; lsof tells which"
            )
        time.sleep(_PACE)


def _is_free(descriptor: int) -> bool:
    """Whether it was; then we have it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_younger(holder: Identity | None, me: Identity | None) -> bool:
    """Whether this one, dead or alive, started after me; the note stays when its writer ends."""
    if holder is None or me is None or holder.boot_id != me.boot_id:
        return False
    return holder.start_time > me.start_time


def _holder(descriptor: int) -> Identity | None:
    """Return who wrote that it has the lock; None if that cannot be read."""
    try:
        note = parse_json(os.pread(descriptor, 4096, 0))
        pid, start_time, boot_id = note["pid"], note["start_time"], note["boot_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not (type(pid) is type(start_time) is int and isinstance(boot_id, str)):
        return None
    return Identity(pid, start_time, boot_id) if 1 < pid <= LARGEST_PID else None


def _is_for_nothing(descriptor: int, me: Identity | None) -> bool:
    """Whether a service that is younger than me wanted no guard any more."""
    try:
        is_needed = parse_json(os.pread(descriptor, 4096, 0)).get("needed", True)
    except (OSError, ValueError, AttributeError):
        return False
    return is_needed is False and _is_younger(_holder(descriptor), me)


def _write_holder(descriptor: int, me: Identity | None, *, is_needed: bool = True) -> None:
    note = json.dumps(asdict(me) | {"needed": is_needed}).encode() if me else b""
    # Where there is no room for it, whoever comes later waits for this one to end by itself.
    with contextlib.suppress(OSError):
        write_note(descriptor, note)


def _end(holder: Identity | None, path: Path) -> None:
    # Not this very process, or one that has not the lock: the note is of an earlier one, and its
    # pid another's by now, or of nobody.
    if holder is None or not is_alive(holder) or not has_open(holder.pid, path):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGTERM)
        os.kill(holder.pid, signal.SIGCONT)
