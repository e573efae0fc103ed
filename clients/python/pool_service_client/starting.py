"""Starting a service in the background for a client that finds none.

The command `pool-service start` does it: of all programs that run it at the same moment one starts
the service, and each gets its address.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import grpc
from grpc import StatusCode

from pool_service_client.connect import ADDRESS_VARIABLE, open_channel
from pool_service_client.default_address import own_socket
from pool_service_client.errors import ServiceNotStarted

PROGRAM_VARIABLE: Final = "POOL_SERVICE_PROGRAM"
PROGRAM: Final = "pool-service"

START_TIMEOUT_S: Final = 30.0

END_TIMEOUT_S: Final = 5.0
"""How much longer the program may take than the limit that it was told, to say why it failed."""

ANSWER_TIMEOUT_S: Final = 2.0
"""How long a service that listens may take to say that it serves."""

_HEALTH: Final = "/grpc.health.v1.Health/Check"
_SERVING: Final = b"\x08\x01"
"""The answer of a service that serves: field 1, which is `status`, is 1, SERVING."""

_COMPLAINTS: Final = (f"{PROGRAM}: ", "Error: ")
"""The beginnings of lines in which the program says why it failed."""

LAST_LINES: Final = 10
"""The lines of the program's output that an error has."""


class Starter:
    """Finds the service of this user, or runs the program that starts one.

    program: the executable; None: the one that POOL_SERVICE_PROGRAM names, else `pool-service`
        beside the running interpreter or on PATH.
    arguments: of `pool-service start`, such as ("--config", FILE).
    timeout: for the start, in seconds.
    """

    def __init__(
        self,
        program: str | os.PathLike[str] | None,
        arguments: Sequence[str],
        timeout: float,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._program = program
        self._arguments = arguments
        self._timeout = timeout
        self._environ = environ
        self._process: subprocess.Popen[str] | None = None
        self._is_given_up = False

    def address(self) -> str | None:
        """Return the address of the service, started if need be. Blocking.

        None if the environment names the address: that service is somebody's, and is not started
        here. Raises ServiceNotStarted.
        """
        if self._environ.get(ADDRESS_VARIABLE):
            return None
        found = own_socket(self._environ)
        # One that ends still listens, and one that starts does already.
        return found if found is not None and _serves(found) else self._run_program()

    def give_up(self) -> None:
        """End the program that `address` waits for, from another thread."""
        self._is_given_up = True
        if self._process is not None:
            self._process.kill()

    def _run_program(self) -> str:
        program = self._found_program()
        try:
            # Inheritable descriptors are left open, so that Python uses posix_spawn where it can:
            # a fork would run gRPC's handlers, which are not safe in a program with calls.
            process = self._process = subprocess.Popen(  # noqa: S603 - what the caller names
                [program, "start", "--timeout", f"{self._timeout:g}s", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                close_fds=False,
            )
        except OSError as error:
            _refuse(f"{program} cannot be run: {error.strerror}")
        with process:
            if self._is_given_up:
                process.kill()
            return self._await_address(program, process)

    def _await_address(self, program: str, process: "subprocess.Popen[str]") -> str:
        """Return the address that the program prints."""
        try:
            printed, said = process.communicate(timeout=self._timeout + END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            _refuse(
                f"'{program} start' did not end within {self._timeout:g} s. If it has started the "
                "service, that goes on: try again, or allow more time (start_timeout)"
            )
        lines = [line.rstrip() for line in said.splitlines() if line.strip()]
        address = printed.strip()
        if process.returncode or not address:
            why = _cause_in(lines)
            _refuse(
                f"'{program} start' failed (exit code {process.returncode}): {why}",
                lines[-LAST_LINES:],
            )
        return address

    def _found_program(self) -> str:
        named = self._program or self._environ.get(PROGRAM_VARIABLE)
        if named:
            return str(Path(named).expanduser())
        beside = Path(sys.executable).with_name(PROGRAM)
        if beside.is_file():
            return str(beside)
        found = shutil.which(PROGRAM, path=self._environ.get("PATH"))
        return found or _refuse(
            f"{PROGRAM} was not found on PATH. Install it ('uv tool install .' in a clone of the "
            f"service), or name the program in {PROGRAM_VARIABLE}"
        )


def _serves(address: str) -> bool:
    """Return whether the service at an address says that it serves."""
    with open_channel(grpc, address, None) as channel:
        check = channel.unary_unary(_HEALTH)
        try:
            return bool(check(b"", timeout=ANSWER_TIMEOUT_S) == _SERVING)
        except grpc.RpcError:
            return False


def _cause_in(lines: Sequence[str]) -> str:
    """Return the line of a program's output that says why it failed."""
    told = (line for line in lines if line.startswith(_COMPLAINTS))
    cause = next(told, lines[-1] if lines else "it said nothing")
    for beginning in _COMPLAINTS:
        cause = cause.removeprefix(beginning)
    return cause.strip().rstrip(".")


def _refuse(why: str, last_lines: Sequence[str] = ()) -> NoReturn:
    """Raise ServiceNotStarted. last_lines: what the program has written."""
    raise ServiceNotStarted(
        f"no pool service runs, and none could be started: {why}.",
        code=StatusCode.UNAVAILABLE,
        last_lines=tuple(last_lines),
    ) from None
