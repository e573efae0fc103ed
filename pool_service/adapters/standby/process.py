"""Standby processes: each is the runtime's interpreter, which waits for its arguments.

The process runs `standby_child.py`. The functions here are blocking: for a worker thread.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from pool_service.adapters import children
from pool_service.adapters.process.identity import boot_id, identity_of
from pool_service.adapters.process.launch import NONCE_VARIABLE, make_work_dir
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.search import interpreter_of, is_launcher_script
from pool_service.adapters.sandbox.surroundings import (
    confined_command,
    sandbox_variables,
    to_message,
)
from pool_service.adapters.system.own_files import remove_tree
from pool_service.adapters.system.process_settings import restore_descriptor_limit
from pool_service.core.types import Identity, LaunchPlan, Sandbox

CHILD = Path(children.__file__).with_name("standby_child.py")

EXIT_TIMEOUT_S = 1.0
"""Time for a standby to exit by itself before it gets SIGKILL."""

KILL_TIMEOUT_S = 5.0
"""Time to wait after SIGKILL: a process that hangs in the kernel may never end."""

_CHUNK_BYTES = 64 * 1024
_MIN_WAIT_S = 0.001
_OUTPUT_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True)
class StandbySpec:
    """The program, environment and sandbox of a standby: they decide what it can become.

    sandbox: None: it is not confined.
    """

    program: str
    environment: tuple[tuple[str, str], ...]
    sandbox: Sandbox | None = None

    @classmethod
    def of(cls, plan: LaunchPlan) -> "StandbySpec | None":
        """Return the spec of the standbys that can run a plan; None if there can be none."""
        program = plan.argv[0]
        if plan.kind != "vllm-mlx" or Path(program).name != vllm_mlx.PROGRAM:
            return None
        return cls(program, plan.environment, plan.sandbox)

    def fits(self, needed: "StandbySpec") -> bool:
        """Return whether a standby of this spec can become a server that needs another one."""
        if self.without_sandbox != needed.without_sandbox:
            return False
        if self.sandbox is None or needed.sandbox is None:
            return self.sandbox is needed.sandbox
        return self.sandbox.covers(needed.sandbox)

    @property
    def without_sandbox(self) -> "StandbySpec":
        """This program and environment, whatever they are confined to."""
        return replace(self, sandbox=None)


@dataclass(slots=True, eq=False)
class Standby:
    """A standby process, warm or still importing.

    channel: the socket to it.
    output: the file that it writes to until it has a log.
    stamps: modification times (ns) of the places that it imports from; empty until reported.
    places: what it may read and which file or directory that was; a new one under the same path is
        another one to the sandbox. None: there was none.
    is_warm: whether it has done everything that it can do before it has its arguments.
    is_ready: whether it has become a server that listens.
    working_set: bytes that Metal recommends to keep resident; 0 until reported.
    has_failed: whether it closed the channel, or sent a malformed message, instead of taking its
        arguments.
    """

    spec: StandbySpec
    nonce: str
    work_dir: Path
    popen: "subprocess.Popen[bytes]"
    identity: Identity
    channel: socket.socket
    output: IO[bytes]
    stamps: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, tuple[int, int] | None] = field(default_factory=dict)
    is_warm: bool = False
    is_ready: bool = False
    working_set: int = 0
    has_failed: bool = False
    _received: bytes = b""

    def send_arguments(
        self,
        argv: tuple[str, ...],
        log: int,
        timeout: float,
        variables: Mapping[str, str] = MappingProxyType({}),
        key: str = "",
        sandbox: Sandbox | None = None,
    ) -> bool:
        """Send the arguments that make a standby a server; return whether it took them in time.

        variables: to set in the process's environment before. key: of the server; empty: none.
        log: a descriptor for the output of the process from then on. timeout: in seconds.
        sandbox: what a confined one may still use from then on.
        """
        deadline = time.monotonic() + timeout
        self.channel.settimeout(timeout)
        try:
            message: dict[str, object] = {"argv": argv, "variables": dict(variables), "key": key}
            message["sandbox"] = sandbox and to_message(sandbox)
            line = json.dumps(message).encode() + b"\n"
            sent = socket.send_fds(self.channel, [line], [log])
            if line[sent:]:
                self.channel.sendall(line[sent:])
            while True:
                for message in self.receive():
                    if message.get("taken"):
                        return True
                # The timeout bounds all of its messages together.
                self.channel.settimeout(max(deadline - time.monotonic(), _MIN_WAIT_S))
                if time.monotonic() > deadline:
                    return False
        except TimeoutError:
            return False
        except (OSError, EOFError, ValueError):
            self.has_failed = True
            return False

    def receive(self) -> list[dict[str, Any]]:
        """Receive the next messages of the process, store what they report, and return them.

        Raises EOFError if the process has closed the channel, ValueError for a malformed message,
        OSError.
        """
        chunk = self.channel.recv(_CHUNK_BYTES)
        if not chunk:
            raise EOFError
        *lines, self._received = (self._received + chunk).split(b"\n")
        messages = [_message(line) for line in lines]
        if len(self._received) > _CHUNK_BYTES:
            raise ValueError("its message is too long")
        for one in messages:
            self.stamps = one.get("stamps", self.stamps)
            self.is_warm = one.get("warm", self.is_warm)
            self.is_ready = one.get("ready", self.is_ready)
            self.working_set = one.get("working_set", self.working_set)
        return messages

    @property
    def is_outdated(self) -> bool:
        """Whether what it has imported from was changed since, or what it may read replaced."""
        if any(_place(path) != known for path, known in self.places.items()):
            return True
        return any(_changed(path, stamp) for path, stamp in self.stamps.items())

    def end(self) -> str:
        """End the process, remove its directory and return the end of its output.

        Closing the channel lets it exit by itself: on macOS a killed process that has used Metal
        may leave memory taken until the next boot. SIGKILL follows if it does not exit.
        """
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(EXIT_TIMEOUT_S)
        self.popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(KILL_TIMEOUT_S)
        with contextlib.suppress(OSError):
            remove_tree(self.work_dir)
        with self.output as output:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(size - _OUTPUT_TAIL_BYTES, 0))
            return output.read().decode(errors="replace").strip()

    def close_output(self) -> None:
        """Close the file of its output, as the process writes to its log now."""
        self.output.close()


def launch(spec: StandbySpec, state_dir: Path) -> Standby | None:
    """Start a standby; return None if its program does more than run vllm-mlx. Raises OSError."""
    program = Path(spec.program)
    interpreter = interpreter_of(program) if is_launcher_script(program) else None
    if interpreter is None:
        return None
    nonce = secrets.token_hex(16)
    with contextlib.ExitStack() as undo:
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        with theirs:
            output = undo.enter_context(tempfile.TemporaryFile())
            work_dir = make_work_dir(state_dir, nonce)
            undo.callback(shutil.rmtree, work_dir, ignore_errors=True)
            environment = dict(spec.environment)
            variables = sandbox_variables(spec.sandbox, environment, work_dir)
            places = {path: _place(path) for path in spec.sandbox.readable} if spec.sandbox else {}
            command = (interpreter, str(CHILD), spec.program)
            popen = subprocess.Popen(  # noqa: S603 - the operator's own interpreter
                confined_command(command, spec.sandbox, work_dir, confines_itself=True),
                env={**environment, **variables, NONCE_VARIABLE: nonce},
                cwd=work_dir,
                stdin=theirs.fileno(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        restore_descriptor_limit(popen.pid)
        # If the system reports nothing of a process that has ended, its start time does not matter.
        identity = identity_of(popen.pid) or Identity(popen.pid, 0, boot_id())
        undo.pop_all()
    return Standby(spec, nonce, work_dir, popen, identity, ours, output, places=places)


def _message(line: bytes) -> dict[str, Any]:
    """Parse a message. Raises ValueError."""
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("its message is nested too deep") from error
    if not isinstance(message, dict) or not isinstance(message.get("stamps", {}), dict):
        raise ValueError("its message is malformed")  # noqa: TRY004 - the documented error
    if not isinstance(message.get("working_set", 0), int):
        raise ValueError("its working set is no number")  # noqa: TRY004 - the documented error
    return message


def _place(path: str) -> tuple[int, int] | None:
    """Return which file or directory is at a path; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116  # as it is compared
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _changed(path: str, stamp: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns != stamp  # noqa: PTH116  # as the process does
    except OSError:
        return True
