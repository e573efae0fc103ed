"""What signals mean to the service: how it is to end, or that it is to read its configuration."""

import asyncio
import os
import select
import signal
import termios
from collections.abc import Callable
from contextlib import suppress

import psutil
import structlog

from pool_service.adapters.state_dir.takeover import LEAVE_SIGNAL
from pool_service.adapters.system.child import is_disregarded
from pool_service.core.errors import PoolError
from pool_service.pool import Pool
from pool_service.reloader import Reloader

DRAIN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""What asks the service to end: a manager, Ctrl-C, Ctrl-\\."""

TERMINAL = "/dev/tty"

log = structlog.get_logger("pool_service.app")


class Ending:
    """How the service is to end. The first signal says it, each further one hurries.

    DRAIN_SIGNALS drain and stop the servers, or leave them if `keep_servers` is set; SIGUSR1
    always leaves them, even in the middle of a drain, to a service that takes over, if
    `is_preempted` says that there is one. SIGHUP reads the configuration again, unless it says that
    the terminal is gone at which the service was started, which drains.
    """

    def __init__(
        self,
        pool: Pool,
        reloader: Reloader,
        *,
        keep_servers: bool,
        is_preempted: Callable[[], bool],
    ) -> None:
        self.wanted = asyncio.Event()
        self.leaving = asyncio.Event()
        self.keep_servers = keep_servers
        self._is_claimed = is_preempted
        self._pool = pool
        self._reloader = reloader
        self._terminal = open_terminal()
        self._reloads: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        for number in DRAIN_SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._loop.add_signal_handler(LEAVE_SIGNAL, self._on_request_to_leave)
        # nohup: whoever ignores it has decided so.
        if not is_disregarded(signal.SIGHUP):
            self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_signal(self, number: signal.Signals) -> None:
        log.info("signal received", signal=number.name)
        if self.wanted.is_set():
            self._pool.escalate()
            return
        self._begin()

    def _on_request_to_leave(self) -> None:
        # It can come late, as to a service that was stopped: who gave up needs no room.
        if not self._is_claimed():
            log.warning("asked to leave for a service that is not there; staying")
            return
        self.keep_servers = True
        if not self.leaving.is_set():
            self.leaving.set()
            self._begin()

    def _begin(self) -> None:
        log.info("shutting down", servers="left running" if self.keep_servers else "drained")
        self.wanted.set()

    def _on_hangup(self) -> None:
        # It can come more than once where a terminal closes, and nobody means to hurry.
        if self.wanted.is_set():
            return
        if self._terminal is not None and has_hung_up(self._terminal):
            self._on_signal(signal.SIGHUP)
            return
        task = self._loop.create_task(self._reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        # Why it was refused is in the log.
        with suppress(PoolError):
            await self._reloader.reload()


def open_terminal() -> int | None:
    """Open the terminal that can hang up on this process, to be kept; None if there is none.

    By the name of its device, where that may be opened: macOS tells nothing of /dev/tty itself.
    """
    found = None
    for name in (TERMINAL, psutil.Process().terminal()):
        # Without O_NONBLOCK one that is just closing would be waited for.
        flags = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            better = os.open(name, flags) if name else None
        except OSError:
            better = None
        if better is None:
            return found
        if found is not None:
            os.close(found)
        found = better
    return found


def has_hung_up(terminal: int) -> bool:
    """Return whether the terminal of this descriptor has hung up.

    To open it again would not tell on macOS, where that works while the shell lives.
    """
    poll = select.poll()
    poll.register(terminal, select.POLLHUP)
    if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
        return True
    try:
        termios.tcgetattr(terminal)
    except termios.error:
        return True
    return False
