"""The sentry: a process that becomes a guard when both the service and its guard have ended.

The sentry is a shell, a tenth of a guard's size. It shares neither name nor program with the two,
so that `pkill python` or `pkill -f pool_service` does not end it. Its input is a pipe whose other
end the service and the guard have. A line means that there is nothing to guard any more; the end of
the input without a line, that both are gone.
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
"""The variable with the guard's command; `pkill -f` would find an argument."""

_SHELL = "/bin/sh"
_WAIT = (
    "trap '' HUP INT; read -r line && exit 0; "
    f"command=${COMMAND_VARIABLE}; unset {COMMAND_VARIABLE}; "
    'eval "exec $command"'
)


@dataclass(slots=True, eq=False)
class Sentry:
    """A sentry started by this process. end: this side of the pipe, which the guard inherits."""

    popen: "subprocess.Popen[bytes]"
    identity: Identity
    end: int

    def leave(self) -> None:
        """Close this process's end of the pipe; the sentry then waits for the guard alone."""
        self.popen.returncode = 0  # else Popen warns of a running process
        self._close()

    def reap(self) -> int:
        """Wait for the sentry's end, reap it and return its exit code."""
        self._close()
        return self.popen.wait()

    def dismiss(self) -> None:
        """End the sentry and reap it."""
        self.popen.terminate()
        self.popen.send_signal(signal.SIGCONT)
        self.reap()

    def _close(self) -> None:
        descriptor, self.end = self.end, -1
        if descriptor >= 0:
            os.close(descriptor)


def begin(command: Sequence[str], output: int) -> Sentry:
    """Start a sentry that will execute `command`, with output to `output`. Raises OSError."""
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
    # Not reaped yet, so the pid is the sentry's even if it has ended.
    identity = identity_of(popen.pid) or Identity(popen.pid, 0, boot_id())
    return Sentry(popen, identity, ours)


def stand_down(end: int) -> None:
    """Send the sentry the line that ends it: there is nothing to guard any more."""
    with contextlib.suppress(OSError):
        os.write(end, b"\n")
