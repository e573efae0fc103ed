"""Takeover of a state directory from the process that holds it.

1. A guard that stops the servers of a dead service is ended; servers that it has not signalled
   stay.
2. A running service is asked to leave only with `--replace`. The new service holds the *claim*, a
   lock on a file of the state directory, until it serves. The kernel releases that lock if the
   new service ends. So the old service can always see whether the new one still exists. If the new
   one has ended, the old one ignores its request to leave, or serves again if it has left already
   (`take_back`).

A note alone is no reason to signal the process that it names: that process must have the lock file
open as well.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pool_service.adapters.process.identity import is_alive
from pool_service.adapters.state_dir.directory_lock import (
    StateDir,
    StateDirError,
    StateDirHeld,
)
from pool_service.adapters.state_dir.holder import holding_process
from pool_service.adapters.system.own_files import open_own
from pool_service.core.types import Identity

LEAVE_SIGNAL = signal.SIGUSR1
"""Asks a service to end and leave its servers running."""

CLAIM = "successor.lock"

TAKEOVER_TIMEOUT_S = 30.0
"""Time for a service to leave: it waits for its running spawns and its disk."""

GUARD_TIMEOUT_S = 10.0
"""Time for a guard to end after SIGTERM, before SIGKILL; it takes milliseconds unless its disk
hangs."""

SETTLE_S = 2.0
"""Time for a new holder to write its note, and for an ending one to be gone."""

REPEAT_REQUEST_S = 1.0
"""Time between two requests to leave: a service that is starting or ending may miss one."""

PAUSE_S = 0.02
"""Between two tries to take the state directory."""

GUARD_MODULE = "pool_service.guard"


def take(path: Path) -> StateDir:
    """Take the state directory, after ending a guard that stops servers there.

    Raises StateDirHeld if a service holds it, another StateDirError if it cannot be used.
    """
    return _Taking(path).take()


def take_over(path: Path) -> StateDir:
    """Take the state directory, after asking the service that holds it, if any, to leave.

    The returned StateDir keeps the claim until `release_claim`. Raises StateDirError if the
    directory cannot be used, or if the service has not left in time; that service keeps serving.
    """
    with contextlib.ExitStack() as undo:
        deadline = time.monotonic() + TAKEOVER_TIMEOUT_S
        claim = _take_claim(path, deadline)
        if claim is not None:
            undo.callback(os.close, claim)
        state = _Taking(path, deadline).take()
        undo.pop_all()
    if claim is not None:
        state.keep_claim(claim)
    return state


def take_back(path: Path) -> StateDir | None:
    """Take the state directory back if the new service ends before it serves.

    For a service that has left for a new one. Waits until the claim is released. Return None if
    another service holds the state directory then: the new one, or a third.
    """
    while is_claimed(path):
        time.sleep(PAUSE_S)
    try:
        return take(path)
    except StateDirHeld:
        return None


def is_claimed(path: Path) -> bool:
    """Return whether a new service holds the claim: it is taking over, or about to."""
    try:
        descriptor = open_own(path / CLAIM, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def make_claimable(path: Path) -> None:
    """Make the file of the claim early, so that a later takeover works on a full disk."""
    with contextlib.suppress(OSError):
        os.close(open_own(path / CLAIM, os.O_RDWR | os.O_CREAT))


class _Taking:
    """One attempt to take a state directory.

    replace_until: how long to wait for a service that was asked to leave, as a time of
        time.monotonic(); None: do not ask a service to leave.
    """

    def __init__(self, path: Path, replace_until: float | None = None) -> None:
        self._path = path
        self._replace_until = replace_until
        self._settles_at = time.monotonic() + SETTLE_S
        self._next_request_at = 0.0
        self._guard: Identity | None = None
        self._guard_deadline = 0.0

    def take(self) -> StateDir:
        """Take the state directory, making its holder leave if it must. Raises StateDirError."""
        while True:
            try:
                return StateDir(self._path)
            except StateDirHeld as held:
                self._make_leave(held)
            time.sleep(PAUSE_S)

    def _make_leave(self, held: StateDirHeld) -> None:
        """Take the next step to make the holder leave; raise `held` if the holder may stay.

        1. A service is asked to leave, every REPEAT_REQUEST_S, if there is a `replace_until`; else
           it may stay.
        2. A guard is ended.
        3. Any other holder, or one not known yet, gets SETTLE_S to write its note or to end.
        4. If there is a `replace_until`, StateDirError is raised at that time.
        """
        now = time.monotonic()
        pid = held.serving_pid
        if pid is not None and holding_process(self._path, pid):
            if self._replace_until is None:
                raise held
            if now >= self._next_request_at:
                self._next_request_at = now + REPEAT_REQUEST_S
                _ask_to_leave(pid)
        elif guard := self._guard_of(held):
            self._end_guard(guard, now, held)
            return
        elif self._guard is not None:
            # The guard has ended; give the next holder time to write its note.
            self._guard, self._settles_at = None, now + SETTLE_S
        elif self._replace_until is None and now > self._settles_at:
            raise held
        if self._replace_until is not None and now > self._replace_until:
            raise StateDirError(
                f"the holder of the state directory was asked to leave {TAKEOVER_TIMEOUT_S:g} s "
                f"ago and has not left: {held}"
            ) from held

    def _guard_of(self, held: StateDirHeld) -> Identity | None:
        """Return the guard that holds the directory, if one does.

        A guard without a note, as on a full disk, is searched for, but only after SETTLE_S.
        """
        if self._guard is not None and is_alive(self._guard):
            return self._guard
        if held.guard_pid is not None:
            return holding_process(self._path, held.guard_pid)
        if time.monotonic() < self._settles_at:
            return None
        found = (holding_process(self._path, pid) for pid in _guard_pids(self._path))
        return next(filter(None, found), None)

    def _end_guard(self, guard: Identity, now: float, held: StateDirHeld) -> None:
        """End a guard by SIGTERM, then SIGKILL; raise `held` if it does not end."""
        if guard != self._guard:
            self._guard, self._guard_deadline = guard, now + GUARD_TIMEOUT_S
            _signal(guard, signal.SIGTERM)
            _signal(guard, signal.SIGCONT)
        elif now > self._guard_deadline + GUARD_TIMEOUT_S:
            raise held
        elif now > self._guard_deadline:
            _signal(guard, signal.SIGKILL)


def _take_claim(path: Path, deadline: float) -> int | None:
    """Take the claim and return its descriptor; None if the file system cannot hold or lock it.

    Raises StateDirError if another process has it until the deadline.
    """
    make_claimable(path)
    try:
        descriptor = open_own(path / CLAIM, os.O_RDONLY)
    except OSError:
        return None
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise StateDirError(
                    f"another service is taking {path} over at present; try again when it serves"
                ) from None
        except OSError:
            os.close(descriptor)
            return None
        else:
            return descriptor
        time.sleep(PAUSE_S)


def _ask_to_leave(pid: int) -> None:
    """Ask a service to leave. Raises StateDirError if it is another user's."""
    try:
        os.kill(pid, LEAVE_SIGNAL)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise StateDirError(
            f"the service that runs (pid {pid}) belongs to another user, so it cannot be replaced"
        ) from error


def _guard_pids(path: Path) -> Iterator[int]:
    """Yield the pids of the guards of this state directory, by their command lines."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if GUARD_MODULE in words and str(path.absolute()) in words:
                yield process.pid


def _signal(identity: Identity, number: signal.Signals) -> None:
    """Send a signal to a process if it is alive; ignore a failure."""
    with contextlib.suppress(OSError):
        if is_alive(identity):
            os.kill(identity.pid, number)
