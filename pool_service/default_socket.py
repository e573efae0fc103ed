"""The default socket: where a service that nobody told where to listen listens beside loopback.

Clients look for it by themselves, in the same places (docs/reference/clients.md, "Address"). Only
the service that holds the default state directory has it, so that no two services of one user want
the same path.
"""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from pool_service.address import LONGEST_SOCKET_PATH, AddressError

FILE_NAME = "socket"

RUNTIME_VARIABLE = "XDG_RUNTIME_DIR"
"""Names the directory for the sockets of the user's programs, which is removed at logout."""

RUNTIME_DIRECTORY = "pool-service"
"""The directory in that one."""

STATE_DIRECTORY = "run"
"""The directory in the state directory, which others may be able to enter: on macOS an installed
runtime is there, too."""

_NOT_IN_ADDRESSES = "%#?"
"""Characters that gRPC does not take as they are in the address of a socket."""

_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def socket_path(state_dir: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the default socket.

    1. `$XDG_RUNTIME_DIR/pool-service/socket`, if that variable names a directory of this user.
    2. `run/socket` in the state directory, without that or if that path cannot be an address.

    state_dir: the default state directory. Raises AddressError if neither can be an address.
    """
    named = Path(environment.get(RUNTIME_VARIABLE, ""))
    if named.is_absolute() and _is_own_directory(named):
        path = named / RUNTIME_DIRECTORY / FILE_NAME
        if not _flaw_of(path):
            return path
    path = state_dir / STATE_DIRECTORY / FILE_NAME
    if flaw := _flaw_of(path):
        raise AddressError(
            f"the path {path} {flaw}. To call the service by a socket, name a path in "
            "service.listen."
        )
    return path


def make_private(directory: Path) -> None:
    """Make a directory for the default socket, unless it is there.

    Raises AddressError if it cannot be made, or if `directory_flaw` finds one.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        flaw = directory_flaw(directory)
    except OSError as error:
        raise AddressError(
            f"the directory {directory} cannot be made: {error.strerror or error}."
        ) from error
    if flaw is not None:
        raise AddressError("; ".join(flaw))


def directory_flaw(directory: Path) -> tuple[str, str] | None:
    """Return why clients would not connect to a socket in a directory, and what to do.

    None if they would. Another user who can enter it could pose as the service. Raises OSError.
    """
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{directory} is no directory but a link", "remove it"
    if status.st_uid != os.geteuid():
        return f"{directory} belongs to another user (uid {status.st_uid})", "remove it"
    if status.st_mode & _OPEN_TO_OTHERS:
        return f"other users can enter {directory}", f"chmod 700 {quote(str(directory))}"
    return None


def _is_own_directory(path: Path) -> bool:
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _flaw_of(path: Path) -> str:
    """Return why a path cannot be the address of a socket, as the rest of a sentence; or ""."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        return f"is longer than {LONGEST_SOCKET_PATH} bytes, the limit of macOS"
    found = " and ".join(
        repr(character) for character in _NOT_IN_ADDRESSES if character in str(path)
    )
    return f"has {found}, which gRPC takes for something else" if found else ""
