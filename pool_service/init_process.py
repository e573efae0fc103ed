"""An init process for a service that is started as process 1, as in a container without one.

A process that loses its parent becomes a child of process 1 and stays a zombie until process 1
reaps it. A service that reaped every child would take its servers' exit codes from the code that
waits for them. Therefore process 1 does nothing but reap, and the service is its child.
"""

import contextlib
import os
import signal
import sys

FORWARDED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def split_off_init() -> None:
    """Fork if this is process 1: return in the child, which becomes the service.

    The parent never returns: it reaps children, forwards FORWARDED to the service, and exits with
    the service's exit code. In any other process this does nothing. Call it before a second
    thread is started.
    """
    if os.getpid() != 1:
        return
    handled = {*FORWARDED, signal.SIGCHLD}
    # Blocked before the fork, so that no signal is lost before the parent waits for the first.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    service = os.fork()
    if service == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _take_terminal()
        return
    os._exit(_reap_until_end_of(service, handled))


def _take_terminal() -> None:
    """Move the service to its own process group, in the foreground of the terminal if any.

    Otherwise Ctrl-C would reach the service twice, and the second signal escalates its shutdown.
    """
    os.setpgid(0, 0)
    if sys.stdin is not None and os.isatty(0):
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        # Fails for a terminal of another session, which sends this process no signals anyway.
        with contextlib.suppress(OSError):
            os.tcsetpgrp(0, os.getpgrp())
        signal.signal(signal.SIGTTOU, before)


def _reap_until_end_of(service: int, handled: set[signal.Signals]) -> int:
    while True:
        number = signal.sigwait(handled)
        if number != signal.SIGCHLD:
            os.kill(service, number)
            continue
        status = _reap(service)
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _reap(service: int) -> int | None:
    """Reap all children that have ended; return the service's wait status if it is one of them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == service:
            found = status
