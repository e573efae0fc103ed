"""The address of a service that nobody named: a socket of the user's own, else loopback."""

import os
import socket
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

UNIX = "unix:"
DEFAULT_ADDRESS = "127.0.0.1:50051"

_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def default_address(environ: Mapping[str, str]) -> str:
    """Return the address of a service that nobody named.

    That is the socket of the user's own service if one listens there, else DEFAULT_ADDRESS.
    """
    return own_socket(environ) or DEFAULT_ADDRESS


def own_socket(environ: Mapping[str, str]) -> str | None:
    """Return the address of the first default socket on which a program listens, if there is one.

    A socket counts only in a directory of this user that no other user can enter: a program of
    another user could pose as the service.
    """
    for directory in _directories(environ):
        path = directory / "socket"
        if _is_private(directory) and _is_listened_on(path):
            return f"{UNIX}{path}"
    return None


def _directories(environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the directories in which a service makes its socket by default."""
    runtime, state = environ.get("XDG_RUNTIME_DIR", ""), _state_home(environ)
    if runtime.startswith("/"):
        yield Path(runtime, "pool-service")
    if state.startswith("/"):
        yield Path(state, "pool-service/run")


def _state_home(environ: Mapping[str, str]) -> str:
    """Return the directory below which programs keep their state; no path without a home."""
    named = environ.get("XDG_STATE_HOME", "")
    if named.startswith("/"):
        return named
    of_system = "Library/Application Support" if sys.platform == "darwin" else ".local/state"
    return os.path.expanduser(f"~/{of_system}")  # noqa: PTH111 - a Path would raise without a home


def _is_private(directory: Path) -> bool:
    try:
        status = directory.lstat()
    except OSError:
        return False
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return is_own and not status.st_mode & _OPEN_TO_OTHERS


def _is_listened_on(path: Path) -> bool:
    """Return whether a program listens at a path, even one that is too busy to accept."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True
