"""Keeps a guard beside the service: what ends its servers if nobody else is left to.

The guard (`pool_service.guard`) has a session of its own, and its input is a pipe whose other
end is the service's alone: the kernel closes that whatever ends the service.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from pool_service.adapters.clock import SystemClock
from pool_service.adapters.exits import ExitWatch, exit_watch, gone
from pool_service.adapters.guard_lock import send_away
from pool_service.adapters.identity import identity_of
from pool_service.adapters.log_cut import trim_file
from pool_service.core.types import Identity

GUARD_LOG = "guard.log"

_MAX_LOG_BYTES = 256 * 1024
_STABLE_RUN = 60.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Guard:
    popen: "subprocess.Popen[bytes]"
    identity: Identity
    started_at: float


class GuardKeeper:
    """Starts a guard, and another whenever it ends, while the `async with` lasts.

    To be entered while the state directory is held. Leaving it leaves the guard, which then
    gives another service `grace` seconds to come; `dismiss` ends it before, for when all
    servers have been stopped. grace 0: no guard, and that of an earlier service is sent away.
    pause_first, pause_most: seconds before another is started, doubled each time while they
    don't live for a minute.
    """

    def __init__(
        self,
        state_dir: Path,
        grace: float,
        *,
        watch: ExitWatch | None = None,
        pause_first: float = 0.2,
        pause_most: float = 30.0,
    ) -> None:
        self._state_dir = state_dir
        self._grace = grace
        self._watch = watch or exit_watch()
        self._pause_first = pause_first
        self._pause_most = pause_most
        self._clock = SystemClock()
        self._guard: _Guard | None = None
        self._youngest: Identity | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def guard_pid(self) -> int | None:
        """The guard's pid; None while there is none."""
        return self._guard.identity.pid if self._guard else None

    async def __aenter__(self) -> Self:
        if self._grace > 0:
            self._start()
            self._keeping = asyncio.create_task(self._keep(), name="guard keeper")
        else:
            await asyncio.to_thread(_send_away, self._state_dir, None)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stop_keeping()
        if self._guard is not None:
            _log.info("leaving the guard", pid=self._guard.identity.pid, grace=self._grace)
            self._guard.popen.returncode = 0  # for Popen: else it warns of a process left
            _close_input(self._guard)

    async def dismiss(self) -> None:
        """There is nothing to guard any more: end the guard and wait for its end.

        An earlier service's guard as well, which ours may not have had the time to send away,
        or which has yet to begin.
        """
        await self._stop_keeping()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.popen.terminate()
            guard.popen.send_signal(signal.SIGCONT)
            await self._bury(guard)
        await asyncio.to_thread(_send_away, self._state_dir, self._youngest)

    async def _keep(self) -> None:
        pause = self._pause_first
        while True:
            if self._guard is not None:
                guard = self._guard
                status = await self._bury(guard)
                self._guard = None
                if self._clock.now() - guard.started_at >= _STABLE_RUN:
                    pause = self._pause_first
                log = str(self._state_dir / GUARD_LOG)
                _log.warning("the guard has ended; starting another", status=status, log=log)
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._pause_most)
            self._start()

    async def _stop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
            self._keeping = None

    async def _bury(self, guard: _Guard) -> int:
        await gone(self._watch, guard.identity)
        _close_input(guard)
        # On macOS an exit is told of shortly before it can be reaped.
        return guard.popen.wait()

    def _start(self) -> None:
        """Not in a thread: cancelled there, it could leave a guard that nobody knows of."""
        try:
            self._guard = _spawn(self._state_dir, self._grace, self._clock.now())
            self._youngest = self._guard.identity
        except OSError as error:
            _log.warning("cannot start a guard; trying again", error=str(error))


def _spawn(state_dir: Path, grace: float, now: float) -> _Guard:
    # -P: neither its directory nor ours is a place to import from.
    program = (sys.executable, "-P", "-m", "pool_service.guard")
    output = _open_log(state_dir / GUARD_LOG)
    try:
        popen = subprocess.Popen(  # noqa: S603 - our own program
            (*program, "--state-dir", str(state_dir.absolute()), "--grace", repr(grace)),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    finally:
        os.close(output)
    # Not reaped yet, so the pid is its own even if it has ended.
    identity = identity_of(popen.pid) or Identity(popen.pid, 0, "")
    return _Guard(popen, identity, now)


def _open_log(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        trim_file(path, _MAX_LOG_BYTES)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, mode=0o600)


def _close_input(guard: _Guard) -> None:
    if guard.popen.stdin is not None:
        guard.popen.stdin.close()


def _send_away(state_dir: Path, youngest: Identity | None) -> None:
    try:
        send_away(state_dir, youngest)
    except OSError as error:
        _log.warning("cannot look for a guard of an earlier service", error=str(error))
