"""The service in the background: starts one unless it runs, and stops it.

However many programs start it at the same moment, there is one service: they take turns by a lock
in the state directory, and each looks first for a service that runs.
"""

import fcntl
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pool_service.adapters.state_dir.directory_lock import StateDirError, make_directory
from pool_service.adapters.state_dir.holder import Note, holding_process, is_held, read_note
from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.own_files import open_own
from pool_service.adapters.system.own_program import own_program
from pool_service.address import AddressError
from pool_service.cli.exit_codes import ExitCode, Failure
from pool_service.gateway_process import own_address
from pool_service_client.connect import open_channel

START_LOCK = "start.lock"
"""The file in the state directory that a program locks while it starts the service."""

LOG = "service.log"
"""The log file of a service in the background, in the state directory."""

LONGEST_LOG_BYTES = 8 * 1024 * 1024
"""A longer log becomes OLD_LOG before another service is started."""

OLD_LOG = "service.log.1"

PAUSE_S = 0.05
"""Seconds between two checks."""

ANSWER_TIMEOUT_S = 2.0
"""How long a service may take to say whether it serves."""

LAST_LINES = 10
"""The most lines of the log that a failure shows."""

LAST_LINES_BYTES = 16 * 1024

ANNOUNCEMENT = b"listening on "
"""The text before each address that the service prints once it serves."""


class BackgroundService:
    """The service of one state directory.

    timeout: for one `start` or `stop`, in seconds; None: no limit.
    """

    def __init__(self, state_dir: Path, timeout: float | None) -> None:
        self._state_dir = state_dir
        self._log = state_dir / LOG
        self._limit = "" if timeout is None else f" within {timeout:g} s"
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout

    def start(self, arguments: Sequence[str]) -> str:
        """Return the address of the service that runs, or start one; return once it serves.

        arguments: the options of `pool-service serve`, used only for a new service.
        Raises Failure.
        """
        try:
            make_directory(self._state_dir)
            # Before the lock, which a program that was stopped may hold.
            address = self._serving()
            if address is None:
                with self._start_lock() as found:
                    address = found or self._await_running() or self._start_new(arguments)
        except (StateDirError, OSError) as error:
            raise self._not_started(_text(error)) from error
        return address

    def stop(self, *, now: bool = False) -> int | None:
        """End the service as SIGTERM does; return its pid once it has ended, None if none runs.

        A service that ends already is only waited for. now: it stops its servers at once.
        Raises Failure.
        """
        try:
            note = read_note(self._state_dir) if is_held(self._state_dir) else None
            process = holding_process(self._state_dir, note.pid) if note else None
            if note is None or note.doing or process is None:
                self._check_nobody(note)
                return None
            self._end(process.pid, now=now)
        except OSError as error:
            raise Failure(
                f"the service was not stopped: {reason(error)}", ExitCode.REFUSED
            ) from error
        while holding_process(self._state_dir, process.pid) == process:
            self._pause(
                f"the service (pid {process.pid}) has not ended{self._limit}, as requests in "
                "flight on its servers may finish first. Wait for it, or run 'pool-service stop "
                "--now'"
            )
        return process.pid

    def _end(self, pid: int, *, now: bool) -> None:
        """Send a service SIGTERM, unless it ends already; a second one if it is to end now."""
        while not self._is_ending():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            if not now:
                return
            self._pause(f"the service (pid {pid}) has not begun to end{self._limit}")
        if now:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _is_ending(self) -> bool:
        note = read_note(self._state_dir)
        return note is None or note.is_ending or not is_held(self._state_dir)

    def _check_nobody(self, note: Note | None) -> None:
        """Raise Failure if a service runs whose process cannot be seen."""
        if is_held(self._state_dir) and not (note and note.doing):
            raise Failure(
                f"the service was not stopped: {self._state_dir} is in use, but this process "
                "cannot see by which one. Stop it as the user who started it, or end its process",
                ExitCode.REFUSED,
            )

    # --- a service that runs ----------------------------------------------------------

    def _serving(self) -> str | None:
        """Return the address of the service that holds the state directory, if it serves now.

        Raises Failure if it serves, but at no address for this user.
        """
        note = read_note(self._state_dir) if is_held(self._state_dir) else None
        if note is None or note.doing or note.is_ending or not note.addresses:
            return None
        address = self._address_in(note)
        return address if _serves(address, self._deadline) else None

    def _address_in(self, note: Note) -> str:
        """Return the address for this user among those of a service. Raises Failure."""
        try:
            address = own_address(note.addresses)
        except AddressError:
            address = None
        if address is None:
            raise Failure(
                f"a service runs (pid {note.pid}), but only at addresses for other machines: "
                f"{', '.join(note.addresses)}. Name the one to use, and what it asks for, in "
                "POOL_SERVICE_ADDRESS",
                ExitCode.FAILURE,
            )
        return address

    def _await_running(self) -> str | None:
        """Wait until the service that holds the state directory serves; return its address.

        None if none holds it. A guard that stops the servers of a dead service is none: the next
        service takes over from it.
        """
        while is_held(self._state_dir):
            if address := self._serving():
                return address
            note = read_note(self._state_dir)
            if note is not None and note.doing:
                return None
            self._pause(self._not_serving("" if note is None else f" (pid {note.pid})"))
        return None

    def _not_serving(self, which: str) -> str:
        return (
            f"the service{which} that uses {self._state_dir} does not serve"
            f"{self._limit}: it is starting or ending, or wants TLS. Try again; "
            f"its log says more ({self._log}, if it was started in the background)"
        )

    # --- a new one --------------------------------------------------------------------

    def _start_new(self, arguments: Sequence[str]) -> str:
        """Start a service in a session of its own, and return its address once it serves."""
        log = self._open_log()
        with os.fdopen(log, "r+b") as written:
            begin = written.seek(0, os.SEEK_END)
            process = subprocess.Popen(  # noqa: S603 - this program itself
                own_program("pool_service.cli", "serve", *arguments),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                umask=0o077,
            )
            assert process.stdout is not None
            with process.stdout as announcements:
                announced = self._await_announcement(process, announcements.fileno())
            if announced:
                note = read_note(self._state_dir)
                return self._address_in(note) if note else announced
            # It lost a race against a service that was started in another way.
            if process.wait() and (address := self._await_running()):
                return address
            written.seek(begin)
            raise self._not_started(f"exit code {process.returncode}", _last_lines(written.read()))

    def _await_announcement(self, process: "subprocess.Popen[bytes]", stdout: int) -> str:
        """Return the first address that a service prints; "" if it ends before."""
        printed = b""
        while b"\n" not in printed:
            left = None if self._deadline == math.inf else self._deadline - time.monotonic()
            if left is not None and left <= 0:
                raise Failure(
                    f"the service (pid {process.pid}) does not serve{self._limit}. "
                    f"It goes on starting; {self._log} says what it does. Try again",
                    ExitCode.TIMEOUT,
                )
            if select.select([stdout], [], [], left)[0]:
                part = os.read(stdout, 4096)
                if not part:
                    return ""
                printed += part
        return printed.partition(b"\n")[0].removeprefix(ANNOUNCEMENT).decode()

    def _open_log(self) -> int:
        """Open the log for more lines, empty if it was long; return its descriptor."""
        try:
            if self._log.stat().st_size > LONGEST_LOG_BYTES:
                self._log.replace(self._state_dir / OLD_LOG)
        except FileNotFoundError:
            pass
        return open_own(self._log, os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def _not_started(self, why: str, last_lines: Sequence[str] = ()) -> Failure:
        """Return the failure of a start; the service's own last words say more than `why`."""
        own = [line for line in last_lines if line.startswith("pool-service: ")]
        more = [line for line in last_lines if line not in own[-1:]]
        told = own[-1].removeprefix("pool-service: ") if own else f"{why}; see {self._log}"
        return Failure(f"the service was not started: {told}", ExitCode.FAILURE, more)

    @contextmanager
    def _start_lock(self) -> Iterator[str | None]:
        """Wait until no other program starts the service; keep others waiting within the block.

        Yields the address of a service that serves meanwhile, and then without the lock.
        """
        lock = open_own(self._state_dir / START_LOCK, os.O_RDWR | os.O_CREAT)
        try:
            address = None
            while not _try_lock(lock) and (address := self._serving()) is None:
                self._pause(
                    f"the service was not started{self._limit}: another program is starting it. "
                    "Try again"
                )
            yield address
        finally:
            os.close(lock)

    def _pause(self, failure: str) -> None:
        """Wait for a moment; raise a Failure with this text if the time is over."""
        if time.monotonic() >= self._deadline:
            raise Failure(failure, ExitCode.TIMEOUT)
        time.sleep(PAUSE_S)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _serves(address: str, deadline: float) -> bool:
    """Return whether a service says that it serves. deadline: by the monotonic clock."""
    limit_s = max(min(ANSWER_TIMEOUT_S, deadline - time.monotonic()), PAUSE_S)
    with open_channel(grpc, address, None) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        try:
            told = health.Check(health_pb2.HealthCheckRequest(), timeout=limit_s)
        except grpc.RpcError:
            return False
    return bool(told.status == health_pb2.HealthCheckResponse.SERVING)


def _last_lines(written: bytes) -> list[str]:
    return written[-LAST_LINES_BYTES:].decode(errors="replace").splitlines()[-LAST_LINES:]


def _text(error: StateDirError | OSError) -> str:
    return reason(error) if isinstance(error, OSError) else str(error)
