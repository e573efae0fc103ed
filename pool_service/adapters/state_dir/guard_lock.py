"""The guard's lock: a pool has one guard at a time, that of the youngest service.

The lock is a `flock` on a file with a note: which guard has the lock, or had it last. A guard ends
an older one and takes the lock over. A guard that finds a younger one in the note ends itself.
"""

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

from pool_service.adapters.process.identity import MAX_PID, identity_of, is_alive
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

END_TIMEOUT_S = 5.0
"""Time for a guard to end after SIGTERM; it takes milliseconds. A guard that could not write its
pid, as on a full disk, gets no signal, and ends by itself when there is no service."""

_PAUSE_S = 0.01


def take_over(state_dir: Path) -> int | None:
    """End the guard that has the lock, if any, and take the lock; for a new guard.

    Return the descriptor that holds the lock, which no child inherits; None if a younger guard, so
    that of a later service, has or had the lock. Blocks until the other guard has ended. Raises
    OSError if the file cannot be opened or locked.
    """
    me = identity_of(os.getpid())
    with _open_lock(state_dir) as descriptor:
        if not _end_holder_and_lock(descriptor, state_dir / GUARD_LOCK, me):
            return None
        _write_holder(descriptor, me)
        return os.dup(descriptor)


def take_if_free(state_dir: Path) -> int | None:
    """Take the lock if it is free; for the sentry when it becomes the guard.

    Return the descriptor that holds the lock; None at once if another guard has it, or if a later
    service has noted that it needs no guard. Raises OSError if the file cannot be opened or locked.
    """
    me = identity_of(os.getpid())
    with _open_lock(state_dir) as descriptor:
        if not _try_lock(descriptor) or _is_unneeded(descriptor, me):
            return None
        _write_holder(descriptor, me)
        return os.dup(descriptor)


def end_guard(state_dir: Path, youngest: Identity | None) -> None:
    """End the guard that has the lock, if any, and note that no guard is needed.

    The caller is a service that holds the state directory. A guard that is still starting ends as
    soon as it reads the note, if it is older than the process in the note.

    youngest: the process for the note: the last guard that the caller has started; None: the
        caller itself, as it has started no guard.

    Raises:
        TimeoutError: the guard has not ended in time.
        OSError: the file cannot be opened or locked.
    """
    with _open_lock(state_dir) as descriptor:
        _end_holder_and_lock(descriptor, state_dir / GUARD_LOCK, None, END_TIMEOUT_S)
        _write_holder(descriptor, youngest or identity_of(os.getpid()), is_needed=False)


@contextlib.contextmanager
def _open_lock(state_dir: Path) -> Iterator[int]:
    descriptor = _open_lock_file(state_dir / GUARD_LOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_lock_file(path: Path) -> int:
    try:
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except NotOurs:
        # No guard can have its lock in such a file: move it aside.
        os.replace(path, path.with_suffix(SET_ASIDE))  # noqa: PTH105 - says what it does
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT):
            raise
        return open_own(path, os.O_RDONLY)


def _end_holder_and_lock(
    descriptor: int, path: Path, me: Identity | None, timeout: float = math.inf
) -> bool:
    """End the guard that has the lock, if any, and take the lock.

    Return False if a guard younger than `me` has or had the lock; with None for `me` no guard is
    too young to be ended. Raises TimeoutError if the other guard has not ended after `timeout`
    seconds.
    """
    if not _try_lock(descriptor):
        holder = _read_holder(descriptor)
        if _is_younger(holder, me):
            return False
        _end(holder, path)
        _await_lock(descriptor, timeout)
    # A younger guard may have had the lock meanwhile.
    return not _is_younger(_read_holder(descriptor), me)


def _await_lock(descriptor: int, timeout: float) -> None:
    """Wait for the lock and take it. Raises TimeoutError after `timeout` seconds."""
    if timeout == math.inf:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    until = time.monotonic() + timeout
    while not _try_lock(descriptor):
        if time.monotonic() >= until:
            raise TimeoutError(
                errno.ETIMEDOUT, f"a guard has {GUARD_LOCK} and does not end; lsof tells which"
            )
        time.sleep(_PAUSE_S)


def _try_lock(descriptor: int) -> bool:
    """Take the lock if it is free; return whether this process has the lock now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_younger(holder: Identity | None, me: Identity | None) -> bool:
    """Return whether the process in the note, which may have ended, started after `me`."""
    if holder is None or me is None or holder.boot_id != me.boot_id:
        return False
    return holder.start_time > me.start_time


def _read_holder(descriptor: int) -> Identity | None:
    """Return the process in the lock's note; None if the note cannot be read."""
    try:
        note = parse_json(os.pread(descriptor, 4096, 0))
        pid, start_time, boot_id = note["pid"], note["start_time"], note["boot_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    if not (type(pid) is type(start_time) is int and isinstance(boot_id, str)):
        return None
    return Identity(pid, start_time, boot_id) if 1 < pid <= MAX_PID else None


def _is_unneeded(descriptor: int, me: Identity | None) -> bool:
    """Return whether a service younger than `me` has noted that it needs no guard."""
    try:
        is_needed = parse_json(os.pread(descriptor, 4096, 0)).get("needed", True)
    except (OSError, ValueError, AttributeError):
        return False
    return is_needed is False and _is_younger(_read_holder(descriptor), me)


def _write_holder(descriptor: int, me: Identity | None, *, is_needed: bool = True) -> None:
    """Note a process in the lock's file, and whether its service needs a guard."""
    note = json.dumps(asdict(me) | {"needed": is_needed}).encode() if me else b""
    # Without a note, as on a full disk, a later guard waits until this one ends by itself.
    with contextlib.suppress(OSError):
        write_note(descriptor, note)


def _end(holder: Identity | None, path: Path) -> None:
    """Send SIGTERM to the process in the note if it is alive and has the lock's file open."""
    # Else the process is no guard: the note is an earlier guard's, whose pid was reused.
    if holder is None or not is_alive(holder) or not has_open(holder.pid, path):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGTERM)
        os.kill(holder.pid, signal.SIGCONT)
