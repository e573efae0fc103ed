"""Namespaces of Linux without names: each is gone once no process and no descriptor holds it.

So nothing of a test run that is killed stays behind, and nobody has to clean up after it.
"""

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)

CLONE_FS = 0x200
CLONE_NEWNS = 0x20000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000


class RefusedError(Exception):
    """A tool of the system did not do what it was asked; the message holds its error."""


def new_network() -> int:
    """Make a network namespace; return a descriptor, whose close ends it."""

    def make() -> int:
        unshare(CLONE_NEWNET)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    return in_thread(make)


def within(namespaces: Iterable[int], function: Callable[[], T]) -> T:
    """Call a function that acts in these namespaces, and whose new processes are born in them.

    namespaces: descriptors; a network namespace, and after it those of an init process.
    """

    def act() -> T:
        # A thread that shares its working directory with others may not enter a mount namespace.
        unshare(CLONE_FS)
        for namespace in namespaces:
            _check(_libc.setns(namespace, 0))
        return function()

    return in_thread(act)


def in_thread(function: Callable[[], T]) -> T:
    """Call a function in a thread of its own, as namespaces are entered by threads for good."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(function).result()


def unshare(kinds: int) -> None:
    """Give this thread new namespaces of these kinds."""
    _check(_libc.unshare(kinds))


def configure(namespace: int, commands: Iterable[str], used: Iterable[int] = ()) -> None:
    """Run commands of `ip` in a network namespace. Raises RefusedError.

    used: other namespaces, which the commands name by `path`.
    """

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["ip", "-batch", "-"],
            input="\n".join(commands),
            capture_output=True,
            text=True,
            check=False,
            pass_fds=tuple(used),
        )

    done = within([namespace], run)
    if done.returncode:
        raise RefusedError(f"ip has refused a command: {done.stderr.strip()}")


def path(namespace: int) -> str:
    """Return how a program that inherits a descriptor of a namespace names that namespace."""
    return f"/proc/self/fd/{namespace}"


def _check(result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
