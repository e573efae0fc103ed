"""One guard for a pool: a lock that whoever comes later takes over from who has it."""

import contextlib
import fcntl
import json
import os
import signal
from dataclasses import asdict
from pathlib import Path

from pool_service.adapters.identity import identity_of, is_alive
from pool_service.core.types import Identity

GUARD_LOCK = "guard.lock"


def take_over(state_dir: Path) -> int:
    """Send the guard that has the lock away, wait for it, and hold the lock instead.

    Returns the descriptor that holds it, which no child inherits. Blocking, for as long as
    the other takes to end. Raises OSError where the file cannot be opened or locked.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(state_dir / GUARD_LOCK, flags, mode=0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _send_away(_holder(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        _write_holder(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(descriptor: int) -> Identity | None:
    """Who wrote that it has the lock; None if that cannot be read."""
    try:
        note = json.loads(os.pread(descriptor, 4096, 0))
        return Identity(int(note["pid"]), int(note["start_time"]), str(note["boot_id"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write_holder(descriptor: int) -> None:
    me = identity_of(os.getpid())
    note = json.dumps(asdict(me)).encode() if me else b""
    # Where there is no room for it, whoever comes later waits for this one to end by itself.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note, 0)


def _send_away(holder: Identity | None) -> None:
    # Not this very process: the note is of an earlier one, and its pid another's by now.
    if holder is None or not is_alive(holder):
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGTERM)
        os.kill(holder.pid, signal.SIGCONT)
