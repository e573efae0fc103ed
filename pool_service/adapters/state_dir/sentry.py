"""The process that waits for the end of both service and guard, and then becomes a guard.

It is a shell, a tenth of a guard's size, and shares neither name nor program with what it waits
for, so that what is aimed at those ("kill all Pythons", `pkill -f pool_service`) does not hit it.
Its input is a pipe of which the service and its guard have the other end. A line in it means that
nothing is to be guarded any more; its end without one, that both are gone however they ended.
"""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from pool_service.adapters.process.identity import boot_id, identity_of
from pool_service.adapters.system.environment import without_secrets
from pool_service.core.types import Identity

COMMAND_VARIABLE = "POOL_SERVICE_SENTRY"
"""Of the sentry's environment: what it becomes. Not an argument, which is what is searched."""

_SHELL = "/bin/sh"
_WAIT = (
    "trap '' HUP INT; read -r line && exit 0; "
    f"command=${COMMAND_VARIABLE}; unset {COMMAND_VARIABLE}; "
    'eval "exec $command"'
)


@dataclass(slots=True, eq=False)
class Sentry:
    """A sentry that this process has started; `end` is our end of the pipe, to be inherited."""

    popen: "subprocess.Popen[bytes]"
    identity: Identity
    end: int

    def leave(self) -> None:
        """Let go of it: it waits for the guard alone from now on."""
        self.popen.returncode = 0  # for Popen: else it warns of a process left
        self._close()

    def bury(self) -> int:
        """Reap it, once it has ended, and return its exit code."""
        self._close()
        return self.popen.wait()

    def dismiss(self) -> None:
        """End it."""
        self.popen.terminate()
        self.popen.send_signal(signal.SIGCONT)
        self.bury()

    def _close(self) -> None:
        descriptor, self.end = self.end, -1
        if descriptor >= 0:
            os.close(descriptor)


def begin(command: Sequence[str], output: int) -> Sentry:
    """Start a sentry that becomes `command`, which writes to `output`. Raises OSError."""
    its, ours = os.pipe()
    try:
        popen = subprocess.Popen(  # noqa: S603 - our own program
            (_SHELL, "-c", _WAIT),
            env=dict(without_secrets(os.environ.items())) | {COMMAND_VARIABLE: shlex.join(command)},
            cwd="/",
            stdin=its,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(its)
    # Not reaped yet, so the pid is its own even if it has ended.
    identity = identity_of(popen.pid) or Identity(popen.pid, 0, boot_id())
    return Sentry(popen, identity, ours)


def stand_down(end: int) -> None:
    """Tell the sentry at this end of its pipe that there is nothing to guard any more."""
    with contextlib.suppress(OSError):
        os.write(end, b"\n")
