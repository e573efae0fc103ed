"""The guard keeper: starts the guard (watchdog), and another one whenever it ends.

The guard (`pool_service.guard`) ends the servers if the service is gone for good. It has its own
session. Its input is a pipe whose other end only the service has, so that the kernel closes that
end, whatever ends the service. If both processes end together, or the service ends while there is
no guard, a third process becomes the guard (`guard_sentry.py`).
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from pool_service.adapters.logs.log_trim import trim_file
from pool_service.adapters.process.exits import ExitWatch, exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.state_dir import guard_sentry
from pool_service.adapters.state_dir.guard_lock import end_guard
from pool_service.adapters.state_dir.guard_sentry import Sentry
from pool_service.adapters.system.clock import SystemClock
from pool_service.adapters.system.own_files import open_own
from pool_service.adapters.system.own_program import own_program
from pool_service.adapters.system.server_environment import without_secrets
from pool_service.core.types import Identity

GUARD_LOG = "guard.log"

_MAX_LOG_BYTES = 256 * 1024
_STABLE_RUN_S = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Guard:
    popen: "subprocess.Popen[bytes]"
    identity: Identity
    started_at: float


class GuardKeeper:
    """Starts a guard, and another one whenever it ends, while the `async with` lasts.

    Enter it while holding the state directory. On exit the guard is left running and gives another
    service `grace` seconds to come. Call `dismiss` before the exit if all servers are stopped.

    grace: in seconds; 0 for no guard, and then the guard of an earlier service is ended.
    left: guards and sentries that earlier keepers of this process have left running. This keeper
        reaps and removes them, and adds its own on exit.
    first_pause_s, max_pause_s: the pause before a guard is started again. It doubles each time, and
        is `first_pause_s` again after a guard has lived for a minute.
    """

    def __init__(
        self,
        state_dir: Path,
        grace: float,
        *,
        left: list[Identity] | None = None,
        watch: ExitWatch | None = None,
        first_pause_s: float = 0.2,
        max_pause_s: float = 30.0,
    ) -> None:
        self._state_dir = state_dir
        self._grace = grace
        self._watch = watch or exit_watch()
        self._first_pause_s = first_pause_s
        self._max_pause_s = max_pause_s
        self._clock = SystemClock()
        self._guard: _Guard | None = None
        self._youngest: Identity | None = None
        self._sentry: Sentry | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._left = [] if left is None else left
        self._reaping: asyncio.Task[object] | None = None

    @property
    def guard_pid(self) -> int | None:
        """The guard's pid; None while there is no guard."""
        return self._guard.identity.pid if self._guard else None

    @property
    def is_alive(self) -> bool | None:
        """Whether the guard runs; None if there is to be none."""
        if self._guard is not None:
            return is_alive(self._guard.identity)
        return False if self._grace > 0 else None

    async def __aenter__(self) -> Self:
        self._reaping = asyncio.create_task(self._reap_left(), name="reap earlier guards")
        if self._grace > 0:
            self._start()
            self._keeping = asyncio.create_task(self._keep(), name="guard keeper")
        else:
            await asyncio.to_thread(_end_earlier_guard, self._state_dir, None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop_keeping()
        if self._reaping is not None:
            self._reaping.cancel()
            await asyncio.gather(self._reaping, return_exceptions=True)
        if self._guard is not None:
            _log.info("leaving the guard", pid=self._guard.identity.pid, grace=self._grace)
            self._guard.popen.returncode = 0  # else Popen warns of a running process
            _close_input(self._guard)
            self._left.append(self._guard.identity)
        if self._sentry is not None:
            self._sentry.leave()
            self._left.append(self._sentry.identity)

    async def _reap_left(self) -> None:
        while self._left:
            identity = self._left[0]
            await wait_for_exit(self._watch, identity)
            with contextlib.suppress(ChildProcessError):
                await asyncio.to_thread(os.waitpid, identity.pid, 0)
            self._left.remove(identity)

    async def dismiss(self) -> None:
        """End the guard and wait for its end, as no servers are left.

        An earlier service's guard is ended as well, even if it is still starting.
        """
        await self._stop_keeping()
        await self._end_guard_and_sentry()
        await asyncio.to_thread(_end_earlier_guard, self._state_dir, self._youngest)

    async def _end_guard_and_sentry(self) -> None:
        # The sentry first, as it would replace the guard.
        sentry_, self._sentry = self._sentry, None
        if sentry_ is not None:
            await asyncio.to_thread(sentry_.dismiss)
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.popen.terminate()
            guard.popen.send_signal(signal.SIGCONT)
            await self._reap_after_end(guard)

    async def _keep(self) -> None:
        """Start another guard whenever the guard has ended or could not be started."""
        pause = self._first_pause_s
        while True:
            if self._guard is not None:
                guard = self._guard
                await self._await_end(guard)
                if self._clock.now() - guard.started_at >= _STABLE_RUN_S:
                    pause = self._first_pause_s
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._max_pause_s)
            self._start()

    async def _await_end(self, guard: _Guard) -> None:
        """Wait until the guard has ended, and reap it. If its sentry ends first, end the guard too.

        The guard has inherited the pipe of its own sentry only, so a new sentry needs a new guard.
        """
        ends = [asyncio.ensure_future(wait_for_exit(self._watch, guard.identity))]
        if self._sentry is not None:
            ends.append(asyncio.ensure_future(wait_for_exit(self._watch, self._sentry.identity)))
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if not ends[0].done():
                _log.warning("the guard's sentry has ended; starting another, and another guard")
                await self._end_guard_and_sentry()
                return
        finally:
            for end in ends:
                end.cancel()
        status = _reap(guard)
        self._guard = None
        log = str(self._state_dir / GUARD_LOG)
        _log.warning("the guard has ended; starting another", status=status, log=log)

    async def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None

    async def _reap_after_end(self, guard: _Guard) -> int:
        await wait_for_exit(self._watch, guard.identity)
        return _reap(guard)

    def _start(self) -> None:
        """Start a guard, and its sentry if there is none; log a failure.

        Blocking, but not in a thread: a cancelled call could lose a guard.
        """
        try:
            with _log_of(self._state_dir) as output:
                self._start_sentry(output)
                self._guard = _spawn(self._command(), output, self._sentry, self._clock.now())
        except OSError as error:
            # A shortage, of descriptors too, may pass.
            _log.warning("cannot start a guard; trying again", error=str(error))
        else:
            self._youngest = self._guard.identity

    def _start_sentry(self, output: int) -> None:
        if self._sentry is not None:
            if is_alive(self._sentry.identity):
                return
            self._sentry.reap()
            self._sentry = None
        try:
            self._sentry = guard_sentry.start((*self._command(), "--last"), output)
        except OSError as error:
            _log.warning("cannot start the guard's sentry", error=str(error))

    def _command(self) -> tuple[str, ...]:
        state_dir = str(self._state_dir.absolute())
        options = ("--state-dir", state_dir, "--grace", repr(self._grace))
        return tuple(own_program("pool_service.guard", *options))


def _spawn(command: tuple[str, ...], output: int, its_sentry: Sentry | None, now: float) -> _Guard:
    """Start a guard that inherits its sentry's pipe. Raises OSError."""
    pipes = () if its_sentry is None else (its_sentry.pipe,)
    sentry_option = () if its_sentry is None else ("--sentry", str(its_sentry.pipe))
    popen = subprocess.Popen(  # noqa: S603 - our own program
        (*command, *sentry_option),
        env=dict(without_secrets(os.environ.items())),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=pipes,
        start_new_session=True,
    )
    # Not reaped yet, so the pid is the guard's even if it has ended.
    identity = identity_of(popen.pid) or Identity(popen.pid, 0, "")
    return _Guard(popen, identity, now)


@contextlib.contextmanager
def _log_of(state_dir: Path) -> Iterator[int]:
    """Yield a descriptor of the guard's log; of /dev/null if the log cannot be opened."""
    path = state_dir / GUARD_LOG
    try:
        output = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        _log.warning("the guard has no log", error=str(error))
        output = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    else:
        with contextlib.suppress(OSError):
            trim_file(path, _MAX_LOG_BYTES)
    try:
        yield output
    finally:
        os.close(output)


def _reap(guard: _Guard) -> int:
    """Reap a guard that has ended and return its exit code."""
    _close_input(guard)
    # macOS notifies of an exit shortly before the process can be reaped.
    return guard.popen.wait()


def _close_input(guard: _Guard) -> None:
    if guard.popen.stdin is not None:
        guard.popen.stdin.close()


def _end_earlier_guard(state_dir: Path, youngest: Identity | None) -> None:
    """End the guard of an earlier service (see `end_guard`); log a failure. Blocking."""
    try:
        end_guard(state_dir, youngest)
    except OSError as error:
        _log.warning("cannot look for a guard of an earlier service", error=str(error))
