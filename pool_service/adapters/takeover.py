"""Takes a state directory over from the service that runs, which leaves its servers."""

import os
import signal
import time
from pathlib import Path

from pool_service.adapters.state_dir import StateDir, StateDirError, StateDirHeld

LEAVE_SIGNAL = signal.SIGUSR1
"""Asks a service to end and to leave its servers running."""

TAKEOVER_TIMEOUT = 30.0
"""Seconds. A service that leaves waits for spawns that are under way, and for its disk."""

PACE = 0.02


def taken_over(path: Path) -> StateDir:
    """Hold the state directory as soon as the present holder, asked to leave, has left it.

    Where nobody holds it, it is just taken. Raises StateDirError, also if the holder
    does not leave in time; it is not asked twice.
    """
    deadline = time.monotonic() + TAKEOVER_TIMEOUT
    asked: int | None = None
    while True:
        try:
            return StateDir(path)
        except StateDirHeld as error:
            held = error
        if held.serving_pid is not None and held.serving_pid != asked:
            asked = held.serving_pid
            _ask_to_leave(asked)
        if time.monotonic() > deadline:
            raise StateDirError(
                f"it was asked to leave {TAKEOVER_TIMEOUT:g} s ago and has not: {held}"
            ) from held
        time.sleep(PACE)


def _ask_to_leave(pid: int) -> None:
    try:
        os.kill(pid, LEAVE_SIGNAL)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise StateDirError(
            f"the service that runs (pid {pid}) belongs to another user, so it cannot be replaced"
        ) from error
