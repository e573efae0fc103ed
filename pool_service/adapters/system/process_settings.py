"""Process settings that children inherit: signal masks, ignored signals, descriptor limits.

A signal that the service blocks or ignores would be blocked or ignored in every descendant, and
only SIGKILL could end such a server. The subprocess module resets no more than SIGPIPE and SIGXFSZ,
and code between fork and exec is not safe with threads. So the service itself neither blocks nor
ignores signals.
"""

import contextlib
import resource
import signal
import sys
from types import FrameType

MAX_DESCRIPTORS = 10_240 if sys.platform == "darwin" else 65_536
"""The service's soft limit of file descriptors, if the hard limit permits. Each caller, server and
log takes one, and macOS grants 256 by default, and OPEN_MAX (10240) at most."""

FEW_DESCRIPTORS = 1024
"""Fewer descriptors than this are worth a warning: each caller, server and log takes one."""

_PYTHONS_OWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Signals that Python itself ignores; subprocess resets them in a child."""

_DEFAULT = frozenset({signal.SIGTTIN, signal.SIGTTOU})
"""Signals that keep their default action: with a handler, a background write to a terminal with
`tostop` would be retried for ever."""

_given_descriptors: "tuple[int, int] | None" = None
"""The descriptor limits (soft, hard) that the service was started with, if it has raised them."""


def unblock_signals() -> None:
    """Unblock every signal, and keep the system from reaping children.

    Call it in the main thread before any other thread starts, as threads inherit the mask.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # A parent that ignores SIGCHLD gets no exit status, and the pids of children are reused early.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def reset_signals() -> None:
    """Unblock every signal, and replace "ignore" by a handler without effect.

    Children inherit ignored signals, but no handlers.
    """
    unblock_signals()
    for number in signal.valid_signals():
        if signal.getsignal(number) is not signal.SIG_IGN or number in _PYTHONS_OWN:
            continue
        # The C library reserves some signals.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL if number in _DEFAULT else disregard)


def disregard(_number: int, _frame: FrameType | None) -> None:
    """Do nothing on a signal: like SIG_IGN, but not inherited by children."""


def is_disregarded(number: int) -> bool:
    """Return whether this process was started with the signal ignored, as by nohup."""
    return signal.getsignal(number) in (signal.SIG_IGN, disregard)


def raise_descriptor_limit() -> int:
    """Raise the soft limit of file descriptors up to MAX_DESCRIPTORS; return the limit.

    Children get the original limit back (`restore_descriptor_limit`). If a sandbox forbids the
    change, the limit stays; if it hides the limit, MAX_DESCRIPTORS is returned.
    """
    global _given_descriptors  # noqa: PLW0603 - the limit is the whole process's as well
    soft = MAX_DESCRIPTORS
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MAX_DESCRIPTORS, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            _given_descriptors = soft, hard
            return most
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def restore_descriptor_limit(pid: int) -> None:
    """Restore the original limit of file descriptors in a new child.

    Programs that were written for a low limit may fail with a high one: select() ends at 1024.
    Linux only; on macOS, where no process can set another's limit, children keep the service's.
    """
    if sys.platform == "linux" and _given_descriptors is not None:
        # The child has ended already, or the system forbids it.
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _given_descriptors)
