"""What the service does where it is the first process, as in a container without an init.

Whatever loses its parent becomes a child of process 1, and stays a zombie until that reaps it. A
service that reaped whatever ends would take the exit codes of its own servers from those who wait
for them; so process 1 is one of its own, which does nothing else, and the service is its child.
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
    """Return in the process that is to be the service; where it was process 1, in a child of it.

    The parent then never returns: it reaps what ends, hands signals on, and ends with the exit
    code of the service. To be called before there is a second thread.
    """
    if os.getpid() != 1:
        return
    handled = {*FORWARDED, signal.SIGCHLD}
    # Before the fork: none may come between it and the wait for the first.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)
    service = os.fork()
    if service == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _take_terminal()
        return
    os._exit(_reap_until_end_of(service, handled))


def _take_terminal() -> None:
    """Have a group of its own, which has the terminal if there is one.

    Else Ctrl-C would reach the service twice, and the second signal hurries it.
    """
    os.setpgid(0, 0)
    if sys.stdin is not None and os.isatty(0):
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        # One that is no terminal of this session sends it nothing, and is nobody's to take.
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
    """Reap all that has ended; the status of the service if it was among it."""
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
