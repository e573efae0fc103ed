"""One process of the runtime's interpreter that waits to be told its arguments.

Blocking: for a worker thread. What it does itself is in `standby_child.py`.
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
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pool_service.adapters import children
from pool_service.adapters.process.identity import boot_id, identity_of
from pool_service.adapters.process.launch import NONCE_VARIABLE, make_work_dir
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.search import interpreter_of, is_usual_script
from pool_service.adapters.system.child import hand_down
from pool_service.core.types import Identity, LaunchPlan

CHILD = Path(children.__file__).with_name("standby_child.py")

LEISURE = 1.0
"""Seconds for one to end by itself."""

END_TIMEOUT = 5.0
"""Seconds for one to end after SIGKILL; one that hangs in the system may never do so."""

_CHUNK = 64 * 1024
_SHORTEST_WAIT_S = 0.001
_TOLD_OF_FAILURE = 2000


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides which servers a process can become: its program, and its environment."""

    program: str
    environment: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, plan: LaunchPlan) -> "Recipe | None":
        """Return the recipe of a plan; None if its program cannot be told its arguments later."""
        program = plan.argv[0]
        if plan.kind != "vllm-mlx" or Path(program).name != vllm_mlx.PROGRAM:
            return None
        return cls(program, plan.environment)


@dataclass(slots=True, eq=False)
class Waiting:
    """It waits, or gets ready to.

    channel: the socket to it; output: what it wrote; stamps: when that from which it imports
    was changed last, empty until it has said so; is_warm: there is nothing left that it could
    do ahead; is_ready: it has become a server that listens; working_set: bytes that Metal
    recommends to keep resident, 0 if it has not told.
    """

    recipe: Recipe
    nonce: str
    work_dir: Path
    popen: "subprocess.Popen[bytes]"
    identity: Identity
    channel: socket.socket
    output: IO[bytes]
    stamps: Mapping[str, int] = field(default_factory=dict)
    is_warm: bool = False
    is_ready: bool = False
    working_set: int = 0
    _received: bytes = b""

    def tell(self, argv: tuple[str, ...], log: int, timeout: float) -> bool:
        """Make it the server of these arguments; False if it did not take them in time.

        log: a descriptor for what it writes from now on; timeout: in seconds.
        """
        deadline = time.monotonic() + timeout
        self.channel.settimeout(timeout)
        try:
            line = json.dumps({"argv": argv}).encode() + b"\n"
            sent = socket.send_fds(self.channel, [line], [log])
            if line[sent:]:
                self.channel.sendall(line[sent:])
            while True:
                for said in self.hear():
                    if said.get("taken"):
                        return True
                # All that it says together may not take longer either.
                self.channel.settimeout(max(deadline - time.monotonic(), _SHORTEST_WAIT_S))
                if time.monotonic() > deadline:
                    return False
        except (OSError, EOFError, ValueError):
            return False

    def hear(self) -> list[dict[str, Any]]:
        """Receive what the process says next, and remember of that what is of use.

        Raises EOFError, OSError, and ValueError where that is not what one of ours says.
        """
        chunk = self.channel.recv(_CHUNK)
        if not chunk:
            raise EOFError
        *lines, self._received = (self._received + chunk).split(b"\n")
        said = [_message(line) for line in lines]
        if len(self._received) > _CHUNK:
            raise ValueError("it says more than any of ours does")
        for one in said:
            self.stamps = one.get("stamps", self.stamps)
            self.is_warm = one.get("warm", self.is_warm)
            self.is_ready = one.get("ready", self.is_ready)
            self.working_set = one.get("working_set", self.working_set)
        return said

    @property
    def is_outdated(self) -> bool:
        """Whether what it has imported was changed meanwhile."""
        return any(_changed(path, stamp) for path, stamp in self.stamps.items())

    def end(self) -> str:
        """End it and leave nothing behind; returns the last that it wrote.

        By itself, as when the service is gone: what has used Metal and is killed may leave
        memory taken on macOS until it boots. By SIGKILL if it is not at leisure to end.
        """
        self.channel.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(LEISURE)
        self.popen.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(END_TIMEOUT)
        shutil.rmtree(self.work_dir, ignore_errors=True)
        with self.output as output:
            size = output.seek(0, os.SEEK_END)
            output.seek(max(size - _TOLD_OF_FAILURE, 0))
            return output.read().decode(errors="replace").strip()

    def close_output(self) -> None:
        """Close what it wrote to before it was told where to write."""
        self.output.close()


def begin(recipe: Recipe, state_dir: Path) -> Waiting | None:
    """Start one; None if its program does more than to run vllm-mlx. Raises OSError."""
    program = Path(recipe.program)
    interpreter = interpreter_of(program) if is_usual_script(program) else None
    if interpreter is None:
        return None
    nonce = secrets.token_hex(16)
    with contextlib.ExitStack() as undo:
        ours, its = socket.socketpair()
        undo.callback(ours.close)
        output = undo.enter_context(tempfile.TemporaryFile())
        work_dir = make_work_dir(state_dir, nonce)
        undo.callback(shutil.rmtree, work_dir, ignore_errors=True)
        with its:
            popen = subprocess.Popen(  # noqa: S603 - the operator's own interpreter
                (interpreter, str(CHILD), recipe.program),
                env=dict(recipe.environment) | {NONCE_VARIABLE: nonce},
                cwd=work_dir,
                stdin=its.fileno(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        hand_down(popen.pid)
        identity = identity_of(popen.pid) or Identity(popen.pid, 0, boot_id())
        undo.pop_all()
    return Waiting(recipe, nonce, work_dir, popen, identity, ours, output)


def _message(line: bytes) -> dict[str, Any]:
    """Return what a line says. Raises ValueError."""
    try:
        said = json.loads(line)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    if not isinstance(said, dict) or not isinstance(said.get("stamps", {}), dict):
        raise ValueError("it is no message")  # noqa: TRY004 - to whoever hears it is a bad value
    if not isinstance(said.get("working_set", 0), int):
        raise ValueError("it tells no number of bytes")  # noqa: TRY004 - as above
    return said


def _changed(path: str, stamp: int) -> bool:
    try:
        return os.stat(path).st_mtime_ns != stamp  # noqa: PTH116  # as the process does
    except OSError:
        return True
