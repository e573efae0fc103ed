"""How one service follows another on a state directory, in whatever order they come and go.

A guard that stops the servers of a dead service is sent away, and what it has not told to end
stays. A service that serves is asked to leave only by `--replace`: who asks holds the *claim*, a
lock on a file of the state directory, until it serves itself. The kernel lets go of that lock
with its holder, so who is asked, and who has left, can tell at any time whether its successor is
still there: a request of one that has gone is no request, and who left for it serves again.

Nobody is signalled because a file says so: a process has to have the lock open as well.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from pool_service.adapters.process.identity import LARGEST_PID, identity_of, is_alive
from pool_service.adapters.state_dir.state_dir import LOCK, StateDir, StateDirError, StateDirHeld
from pool_service.adapters.system.own_files import has_open, open_own
from pool_service.core.types import Identity

LEAVE_SIGNAL = signal.SIGUSR1
"""Asks a service to end and to leave its servers running."""

CLAIM = "successor.lock"

TAKEOVER_TIMEOUT_S = 30.0
"""A service that leaves waits for spawns that are under way, and for its disk."""

GUARD_TIMEOUT_S = 10.0
"""A guard ends within some milliseconds of its SIGTERM, unless its disk hangs."""

SETTLING_S = 2.0
"""For a holder to say who it is, and for one that only looked or that is just ending to be gone."""

ASKED_AGAIN_S = 1.0

PACE_S = 0.02

GUARD_MODULE = "pool_service.guard"


def taken(path: Path) -> StateDir:
    """Hold the state directory, as soon as a guard that stops servers there has left them.

    Raises StateDirError, of which StateDirHeld if a service has it.
    """
    return _Taking(path).take()


def taken_over(path: Path) -> StateDir:
    """Hold the state directory as soon as the service that has it, asked to leave, has left it.

    Where none has it, it is just taken. The claim is held until `StateDir.serving`. Raises
    StateDirError, also if the service does not leave in time; it then stays.
    """
    with contextlib.ExitStack() as undo:
        deadline = time.monotonic() + TAKEOVER_TIMEOUT_S
        claim = _claimed(path, deadline)
        if claim is not None:
            undo.callback(os.close, claim)
        state = _Taking(path, deadline).take()
        undo.pop_all()
    if claim is not None:
        state.keep_claim(claim)
    return state


def taken_back(path: Path) -> StateDir | None:
    """Wait for the successor for which this service has left, until it serves: None.

    If it has gone instead and nobody else came, hold the state directory again.
    """
    while is_preempted(path):
        time.sleep(PACE_S)
    try:
        return taken(path)
    except StateDirHeld:
        return None


def is_preempted(path: Path) -> bool:
    """Whether somebody is there who takes over, or is about to."""
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
    """Make the file of the claim while there is room for it: a full disk hinders nobody then."""
    with contextlib.suppress(OSError):
        os.close(open_own(path / CLAIM, os.O_RDWR | os.O_CREAT))


class _Taking:
    """One try to hold a state directory.

    replace_until: of time.monotonic, up to when a service that leaves is waited for; None: a
    service is not asked to leave.
    """

    def __init__(self, path: Path, replace_until: float | None = None) -> None:
        self._path = path
        self._replace_until = replace_until
        self._settles_at = time.monotonic() + SETTLING_S
        self._asks_at = 0.0
        self._guard: Identity | None = None
        self._guard_until = 0.0

    def take(self) -> StateDir:
        while True:
            try:
                return StateDir(self._path)
            except StateDirHeld as held:
                self._see_to(held)
            time.sleep(PACE_S)

    def _see_to(self, held: StateDirHeld) -> None:
        """Do what brings the holder to leave; raise where nothing does."""
        now = time.monotonic()
        pid = held.serving_pid
        if pid is not None and self._holder(pid):
            if self._replace_until is None:
                raise held
            if now >= self._asks_at:
                # Again: whoever begins or ends just then does not hear it.
                self._asks_at = now + ASKED_AGAIN_S
                _ask_to_leave(pid)
        elif guard := self._guard_of(held):
            self._send_away(guard, now, held)
            return
        elif self._guard is not None:
            # It has ended since it kept us out. Whoever comes after it has time to say so.
            self._guard, self._settles_at = None, now + SETTLING_S
        elif self._replace_until is None and now > self._settles_at:
            raise held
        if self._replace_until is not None and now > self._replace_until:
            raise StateDirError(
                f"it was asked to leave {TAKEOVER_TIMEOUT_S:g} s ago and has not; it stays: {held}"
            ) from held

    def _guard_of(self, held: StateDirHeld) -> Identity | None:
        """The guard that has it; looked for where its note could not be written."""
        if self._guard is not None and is_alive(self._guard):
            return self._guard
        if held.guard_pid is not None:
            return self._holder(held.guard_pid)
        if time.monotonic() < self._settles_at:
            return None
        return next(filter(None, map(self._holder, _guard_pids(self._path))), None)

    def _send_away(self, guard: Identity, now: float, held: StateDirHeld) -> None:
        if guard != self._guard:
            self._guard, self._guard_until = guard, now + GUARD_TIMEOUT_S
            _signal(guard, signal.SIGTERM)
            _signal(guard, signal.SIGCONT)
        elif now > self._guard_until + GUARD_TIMEOUT_S:
            raise held
        elif now > self._guard_until:
            _signal(guard, signal.SIGKILL)

    def _holder(self, pid: int) -> Identity | None:
        """The process of this pid, if it has the file of the lock open."""
        identity = identity_of(pid) if 0 < pid <= LARGEST_PID else None
        lock = self._path / LOCK
        if identity is None or not has_open(pid, lock):
            return None
        return identity if is_alive(identity) else None


def _claimed(path: Path, deadline: float) -> int | None:
    """A descriptor that holds the claim; None where the file system has no place or lock for it.

    Raises StateDirError where another process has it for all the time.
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
        time.sleep(PACE_S)


def _ask_to_leave(pid: int) -> None:
    try:
        os.kill(pid, LEAVE_SIGNAL)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise StateDirError(
            f"the service that runs (pid {pid}) belongs to another user, so it cannot be replaced"
        ) from error


def _guard_pids(path: Path) -> Iterator[int]:
    """The guards of this state directory, by their arguments."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if GUARD_MODULE in words and str(path.absolute()) in words:
                yield process.pid


def _signal(identity: Identity, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        if is_alive(identity):
            os.kill(identity.pid, number)
