"""What the service's children must not get of its own settings.

A blocked signal stays blocked in every descendant, and an ignored one ignored: a server with
either could only be killed. subprocess puts back no more than SIGPIPE and SIGXFSZ, and code
between fork and exec is no way out where there are threads. So the service has neither itself.
"""

import contextlib
import resource
import signal
import sys
from types import FrameType

DESCRIPTORS = 10_240 if sys.platform == "darwin" else 65_536
"""The soft limit that the service gives itself where the hard one allows. macOS gives a program
256, of which each caller, server and log takes one; it allows no more than OPEN_MAX."""

FEW_DESCRIPTORS = 1024
"""Under it a service is short of them soon: each caller, server and log takes one or more."""

_PYTHONS_OWN = frozenset({signal.SIGPIPE, signal.SIGXFSZ})
"""Ignored by Python itself, which puts them back in a child."""

_DEFAULT = frozenset({signal.SIGTTIN, signal.SIGTTOU})
"""With a handler, a write to a terminal that stops its background would be tried for ever."""

_given_descriptors: "tuple[int, int] | None" = None
"""The limits that the service was started with, while it has others."""


def unblock_signals() -> None:
    """Unblock every signal, and let no child be reaped by the system.

    For the main thread, before there is another: a thread has the mask of the one that made it.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Of who ignores it no end is told, and a pid that is still waited for may become another's.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def reset_signals() -> None:
    """Unblock every signal, and let no child inherit that one is ignored.

    One that was ignored has no effect on this process either, until it gets another handler.
    """
    unblock_signals()
    for number in signal.valid_signals():
        if signal.getsignal(number) is not signal.SIG_IGN or number in _PYTHONS_OWN:
            continue
        # The C library keeps some for itself.
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL if number in _DEFAULT else disregard)


def disregard(_number: int, _frame: FrameType | None) -> None:
    """Do nothing on a signal: as to ignore it, but that no child inherits it."""


def is_disregarded(number: int) -> bool:
    """Whether whoever started this process wanted the signal ignored, as nohup does."""
    return signal.getsignal(number) in (signal.SIG_IGN, disregard)


def raise_descriptor_limit() -> int:
    """Allow this process as many open files as it may have, up to DESCRIPTORS; returns how many.

    The limit of children is put back by `hand_down`. Where a sandbox forbids it, what there is
    has to do; where it is not even told, it counts as enough.
    """
    global _given_descriptors  # noqa: PLW0603 - the limit is the whole process's as well
    soft = DESCRIPTORS
    with contextlib.suppress(OSError, ValueError):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        if soft != resource.RLIM_INFINITY and soft < most:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            _given_descriptors = soft, hard
            return most
    return DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def hand_down(pid: int) -> None:
    """Give a new child the limit of descriptors that the service was started with.

    A program that is made for a low one may go wrong with a high one: select() ends at 1024.
    Only Linux lets one process set another's; on macOS children keep the service's.
    """
    if sys.platform == "linux" and _given_descriptors is not None:
        # It has ended already, or the system forbids it.
        with contextlib.suppress(OSError):
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _given_descriptors)
