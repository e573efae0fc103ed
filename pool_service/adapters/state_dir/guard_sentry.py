"""The sentry: a process that becomes a guard when both the service and its guard have ended.

The sentry is a shell, a tenth of a guard's size. Its name and its program differ from those of the
service and the guard, so that `pkill python` or `pkill -f pool_service` does not end it.

Its input is a pipe, whose other end the service and the guard have.
1. A line tells the sentry that there is nothing to guard any more: it ends.
2. The end of the input without a line means that both are gone: it becomes a guard.
"""

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from pool_service.adapters.process.identity import boot_id, identity_of
from pool_service.adapters.system.server_environment import without_secrets
from pool_service.core.types import Identity

COMMAND_VARIABLE = "POOL_SERVICE_SENTRY"
"""The variable with the guard's command: in an argument `pkill -f` would find its words."""

_SHELL = "/bin/sh"
_WAIT = (
    "trap '' HUP INT; read -r line && exit 0; "
    f"command=${COMMAND_VARIABLE}; unset {COMMAND_VARIABLE}; "
    'eval "exec $command"'
)


@dataclass(slots=True, eq=False)
class Sentry:
    """A sentry that this process has started.

    pipe: this process's descriptor of the pipe, which the guard inherits; -1 once closed.
    """

    popen: "subprocess.Popen[bytes]"
    identity: Identity
    pipe: int

    def leave(self) -> None:
        """Leave the sentry running: close this process's end of the pipe.

        The sentry then waits for the end of the guard alone.
        """
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
        descriptor, self.pipe = self.pipe, -1
        if descriptor >= 0:
            os.close(descriptor)


def start(command: Sequence[str], output: int) -> Sentry:
    """Start a sentry that will execute `command`, with output to `output`. Raises OSError."""
    reader, writer = os.pipe()
    try:
        popen = subprocess.Popen(  # noqa: S603 - our own program
            (_SHELL, "-c", _WAIT),
            env=dict(without_secrets(os.environ.items())) | {COMMAND_VARIABLE: shlex.join(command)},
            cwd="/",
            stdin=reader,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    # Not reaped yet, so the pid is the sentry's even if it has ended.
    identity = identity_of(popen.pid) or Identity(popen.pid, 0, boot_id())
    return Sentry(popen, identity, writer)


def stand_down(pipe: int) -> None:
    """End the sentry from the guard, as there is nothing to guard any more: send it the line."""
    with contextlib.suppress(OSError):
        os.write(pipe, b"\n")
