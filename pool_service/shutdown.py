"""Signal handling: when and how the service shuts down, and when it reloads its configuration."""

import asyncio
import os
import select
import signal
import termios
from collections.abc import Callable

import psutil
import structlog

from pool_service.adapters.state_dir.takeover import LEAVE_SIGNAL
from pool_service.adapters.system.process_settings import is_disregarded
from pool_service.audit import Audit
from pool_service.event_records import Call
from pool_service.pool import Pool
from pool_service.reloader import Reloader
from pool_service.rpc.answering import keep_refusal

DRAIN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
"""Signals that shut the service down: sent by a service manager, Ctrl-C, Ctrl-\\."""

TERMINAL = "/dev/tty"

log = structlog.get_logger("pool_service.app")


class Shutdown:
    """Decides by the signals received when and how the service ends.

    1. DRAIN_SIGNALS drain and stop the servers, or leave them running if `keep_servers` is set.
       A second one escalates the shutdown.
    2. SIGUSR1 leaves the servers, even in the middle of a drain, to the service that takes over;
       ignored if `is_claimed` returns False, as there is none then.
    3. SIGHUP reloads the configuration. If it comes because the service's terminal has hung up,
       it acts like a drain signal.
    """

    def __init__(
        self,
        pool: Pool,
        reloader: Reloader,
        *,
        keep_servers: bool,
        is_claimed: Callable[[], bool],
        audit: Audit,
    ) -> None:
        self.requested = asyncio.Event()
        """Set when the service is to end."""
        self.leaving = asyncio.Event()
        """Set when a new service takes over the servers."""
        self.keep_servers = keep_servers
        self._is_claimed = is_claimed
        self._audit = audit
        self._pool = pool
        self._reloader = reloader
        self._terminal = open_terminal()
        self._reloads: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        for number in DRAIN_SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._loop.add_signal_handler(LEAVE_SIGNAL, self._on_request_to_leave)
        # An ignored SIGHUP stays ignored: nohup has decided so.
        if not is_disregarded(signal.SIGHUP):
            self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)

    def _on_signal(self, number: signal.Signals) -> None:
        log.info("signal received", signal=number.name)
        if self.requested.is_set():
            self._pool.escalate()
            return
        self._begin()

    def _on_request_to_leave(self) -> None:
        # The request can arrive late, when the other service has given up already.
        if not self._is_claimed():
            log.warning("request to leave ignored: no other service is taking over")
            return
        self.keep_servers = True
        if not self.leaving.is_set():
            self.leaving.set()
            self._begin()

    def _begin(self) -> None:
        log.info("shutting down", servers="left running" if self.keep_servers else "drained")
        self.requested.set()

    def _on_hangup(self) -> None:
        # A closing terminal may send SIGHUP several times; only the first one may count.
        if self.requested.is_set():
            return
        if self._terminal is not None and has_hung_up(self._terminal):
            self._on_signal(signal.SIGHUP)
            return
        task = self._loop.create_task(self._reload(), name="reload")
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _reload(self) -> None:
        call = Call("Reload", "", f"signal {signal.SIGHUP.name}")
        try:
            result = await self._reloader.reload()
        except Exception as error:  # noqa: BLE001  # logged by the reloader, or here
            keep_refusal(self._audit, call, error)
        else:
            self._audit.reloaded(call, result)


def open_terminal() -> int | None:
    """Return a descriptor of the controlling terminal; None if there is none.

    Opens the terminal's device by its name if permitted, since macOS reports no hang-up on
    /dev/tty itself. Keep it open for `has_hung_up`.
    """
    found = None
    for name in (TERMINAL, psutil.Process().terminal()):
        # Without O_NONBLOCK, opening a closing terminal would block.
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

    Opening it anew is no test: on macOS that works as long as the shell lives.
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
