"""A service that kills itself at a point that was chosen.

A point is a moment at which it is about to change the world, or has just done so: something
is written, made, moved or removed, a process is started, a signal sent. The functions of the
standard library by which the adapters do that are wrapped, in this process alone; each call
of one is two points, before and after. What was passed is written to a file, for the test to
count and to tell.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pool_service.cli import main
from pool_service.guard.orphans import end_orphans

_RAW_WRITE = os.write
_RAW_OPEN = os.open
_RAW_KILL = os.kill

WRAPPED: tuple[tuple[Any, str], ...] = (
    (os, "rename"),
    (os, "unlink"),
    (os, "mkdir"),
    (os, "rmdir"),
    (os, "pwrite"),
    (os, "ftruncate"),
    (os, "kill"),
    (os, "killpg"),
    (subprocess.Popen, "__init__"),
    (subprocess.Popen, "send_signal"),
)


class Points:
    """Counts the points that are passed; kills this process at the one with the number `at`."""

    def __init__(self, passed: Path, at: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = _RAW_OPEN(passed, flags, 0o600)
        self._at = at
        self._count = 0
        self._lock = threading.Lock()

    def install(self) -> None:
        """Wrap what changes the world, for the rest of this process's life."""
        for owner, name in WRAPPED:
            setattr(owner, name, self._wrapped(getattr(owner, name), name))
        os.open = self._making(os.open)

    def _pass(self, words: str) -> None:
        with self._lock:
            _RAW_WRITE(self._descriptor, f"{words}\n".encode())
            if self._count == self._at:
                _RAW_KILL(os.getpid(), signal.SIGKILL)
                signal.pause()
            self._count += 1

    def _wrapped(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - of any function
            told = " ".join(map(_told, arguments))
            self._pass(f"before {name} {told}")
            try:
                return function(*arguments, **options)
            finally:
                self._pass(f"after {name} {told}")

        return wrapped

    def _making(self, function: Callable[..., int]) -> Callable[..., int]:
        """Only what makes a file counts, not what only reads one."""
        counted = self._wrapped(function, "open")

        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:  # noqa: ANN401
            chosen = counted if flags & os.O_CREAT else function
            result: int = chosen(path, flags, *arguments, **options)
            return result

        return opened


def _told(argument: object) -> str:
    if isinstance(argument, str | bytes | int | Path):
        return str(argument)[-60:]
    if isinstance(argument, tuple | list):
        return " ".join(map(str, argument))[-60:]
    return "-"


def serve(arguments: list[str], told: Connection, log: Path, passed: Path | None, at: int) -> None:
    """Be a service that tells its addresses to `told`; with points if they are to be `passed`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(told.fileno(), 1)
    told.close()
    errors = _RAW_OPEN(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 2)
    os.close(errors)
    # What the test's runner put in their places is of another process.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    if passed is not None:
        Points(passed, at).install()
    sys.argv = ["pool-service", "serve", *arguments]
    main()


def guard(state_dir: Path, log: Path, passed: Path, at: int) -> None:
    """Be a guard whose grace is over, with points."""
    errors = _RAW_OPEN(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 2)
    os.close(errors)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    Points(passed, at).install()
    end_orphans(state_dir)
