"""Resolution and checks of listening addresses, for errors that say why one cannot be used.

gRPC names no reason, and succeeds if any of several addresses works. So each address is tried with
a socket first.
"""

import asyncio
import contextlib
import errno
import os
import socket
import stat
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from pool_service.address import AddressError

_LOOPBACK = ("127.0.0.1", "::1")

_SHARES_PORTS = sys.platform != "linux"
"""Whether (on BSDs) SO_REUSEADDR permits binding one address while another program of the same user
listens on all addresses; that program would then lose its clients."""

_ANSWER_TIMEOUT_S = 0.5
"""Seconds to connect to a listener on this machine, which takes next to none."""

_BACKLOG_PAUSE_S = 0.05
"""Seconds before a second try: on macOS a socket with a full queue of connections briefly refuses
more, as a dead socket does."""

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_WHY = {
    errno.EADDRINUSE: "it is taken by another program. Stop that one, or choose another port",
    errno.EADDRNOTAVAIL: "it is no address of this machine. Name one that is",
    errno.EAFNOSUPPORT: "this machine has no addresses of this kind. Name another one",
    errno.EACCES: "permission denied. Choose another one (ports below 1024 need root)",
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """One address that a host name resolves to."""

    family: int
    host: str

    def text(self, port: int) -> str:
        """Return the address with a port in gRPC's form."""
        return f"[{self.host}]:{port}" if self.family == socket.AF_INET6 else f"{self.host}:{port}"


async def resolve(text: str) -> list[Resolved]:
    """Return the addresses of `host:port`, without address families that this machine lacks.

    Raises AddressError if the host is unknown, or if one of the addresses cannot be used.
    """
    sockets = await _sockets_of(text)
    refusals = {each: _refusal(*each) for each in sockets}
    # An unavailable address family is ignored if the name has other addresses.
    usable = [each for each, error in refusals.items() if error not in _NOT_HERE]
    for each in usable or sockets:
        if refusals[each]:
            raise AddressError(_refusal_text(text, str(each[1][0]), refusals[each]))
    return [Resolved(family, str(sockaddr[0])) for family, sockaddr in usable]


async def _sockets_of(text: str) -> list[tuple[int, tuple[object, ...]]]:
    host, _, port = text.rpartition(":")
    loop = asyncio.get_running_loop()
    # Whatever /etc/hosts says, gRPC's clients resolve localhost to loopback (RFC 6761).
    names = _LOOPBACK if host.lower() == "localhost" else (host.strip("[]"),)
    try:
        found = [
            one
            for name in names
            for one in await loop.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
        ]
    except OSError as error:
        raise AddressError(
            f"cannot listen on {text}: the host {host!r} is not known ({error.strerror}). "
            "Correct its name, or write an address of this machine."
        ) from error
    return list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))


def make_way(path: Path) -> None:
    """Make a socket's directory, and remove a dead socket from the path.

    Raises AddressError if a program listens there, a file that is no socket is there, or the
    directory cannot hold a socket.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_dead(path)
        _try_to_bind(socket.AF_UNIX, str(path))
        path.unlink()
    except OSError as error:
        why = error.strerror or str(error)
        raise AddressError(
            f"cannot listen on unix:{path}: there can be no socket in {path.parent}: {why}. "
            "Choose another path."
        ) from error


def _remove_dead(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise AddressError(f"cannot listen on unix:{path}: it exists and is no socket.")
    except FileNotFoundError:
        return
    for pause in (_BACKLOG_PAUSE_S, 0.0):
        if _is_listened_on(path):
            raise AddressError(
                f"cannot listen on unix:{path}: another program listens there. Stop it, or choose "
                "another path."
            )
        time.sleep(pause)
    path.unlink(missing_ok=True)


def _is_listened_on(path: Path) -> bool:
    """Return whether a program listens at a path, even one that is too busy to accept."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):
            # The listener's queue of connections is full.
            return True
    return True


def _refusal(family: int, address: tuple[object, ...]) -> int:
    """Return the errno with which an address cannot be used; 0 if it can."""
    try:
        _try_to_bind(family, address)
        if _SHARES_PORTS and _is_answered(family, address):
            return errno.EADDRINUSE
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _is_answered(family: int, address: tuple[object, ...]) -> bool:
    """Return whether another program listens on this address or on all addresses."""
    try:
        _try_to_bind(family, address, reuse=False)
    except OSError:
        # The bind also fails for connections in TIME_WAIT, but those do not answer.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_ANSWER_TIMEOUT_S)
            probe.connect(address)
            return True
    return False


def _try_to_bind(family: int, address: object, *, reuse: bool = True) -> None:
    """Bind a socket to an address and close it. Raises OSError."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if reuse and family != socket.AF_UNIX:
            # As gRPC does: ignore an earlier service's connections in TIME_WAIT.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)  # type: ignore[arg-type]  # by its family


def _refusal_text(text: str, host: str, number: int) -> str:
    which = "" if host in text else f" (at {host})"
    why = _WHY.get(number, f"{os.strerror(number)}. Choose another address")
    return f"cannot listen on {text}{which}: {why}."
