"""Which addresses a name stands for, and whether they can be had: gRPC does not say why not.

Each is tried with a socket of our own, since gRPC is content if any of several can be had.
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
"""With SO_REUSEADDR a BSD lets one address be bound while another program of the same user listens
on all of them, and then takes that one's callers away."""

_ANSWER_TIMEOUT = 0.5
"""Seconds; on this machine it takes none."""

_BACKLOG_PAUSE = 0.05
"""Seconds. On macOS a socket whose queue of connections is full refuses more, as a dead one does,
for a moment."""

_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_WHY = {
    errno.EADDRINUSE: "it is taken by another program. Stop that one, or choose another port",
    errno.EADDRNOTAVAIL: "it is no address of this machine. Name one that is",
    errno.EAFNOSUPPORT: "this machine has no such kind of address. Name another one",
    errno.EACCES: "this user may not. Choose another one (ports below 1024 are root's)",
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """One address that a name stands for."""

    family: int
    host: str

    def text(self, port: int) -> str:
        """As gRPC takes it."""
        return f"[{self.host}]:{port}" if self.family == socket.AF_INET6 else f"{self.host}:{port}"


async def resolve(text: str) -> list[Resolved]:
    """All addresses of `host:port`, without those of a kind that this machine does not have.

    Raises AddressError if the host is not known, or one of them cannot be listened on.
    """
    sockets = await _sockets_of(text)
    refusals = {each: _refusal(*each) for each in sockets}
    # Where a name has others, a kind of address that is not available is none that it has.
    usable = [each for each, error in refusals.items() if error not in _NOT_HERE]
    for each in usable or sockets:
        if refusals[each]:
            raise AddressError(_cannot(text, str(each[1][0]), refusals[each]))
    return [Resolved(family, str(sockaddr[0])) for family, sockaddr in usable]


async def _sockets_of(text: str) -> list[tuple[int, tuple[object, ...]]]:
    host, _, port = text.rpartition(":")
    loop = asyncio.get_running_loop()
    # Whatever the machine's own list says, that is what gRPC's callers take it for (RFC 6761).
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
    """Make the directory of a socket, and remove one that nobody listens on any more.

    Raises AddressError if there can be no socket, or any other file is there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _remove_dead(path)
        _try(socket.AF_UNIX, str(path))
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
    for pause in (_BACKLOG_PAUSE, 0.0):
        if _is_listened_on(path):
            raise AddressError(
                f"cannot listen on unix:{path}: another program listens there. Stop it, or choose "
                "another path."
            )
        time.sleep(pause)
    path.unlink(missing_ok=True)


def _is_listened_on(path: Path) -> bool:
    """Return whether somebody listens at a path, even if too busy to accept a connection."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except (BlockingIOError, TimeoutError):
            # Its queue of connections is full.
            return True
    return True


def _refusal(family: int, address: tuple[object, ...]) -> int:
    """Why it cannot be listened on; 0 if it can."""
    try:
        _try(family, address)
        if _SHARES_PORTS and _is_answered(family, address):
            return errno.EADDRINUSE
    except OSError as error:
        return error.errno or errno.EINVAL
    return 0


def _is_answered(family: int, address: tuple[object, ...]) -> bool:
    """Return whether another program listens where we could, on this address or on all."""
    try:
        _try(family, address, reuse=False)
    except OSError:
        # A connection that still closes is in the way as well, but answers nobody.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(_ANSWER_TIMEOUT)
            probe.connect(address)
            return True
    return False


def _try(family: int, address: object, *, reuse: bool = True) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if reuse and family != socket.AF_UNIX:
            # As gRPC does: a connection of an earlier service that still closes is in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)  # type: ignore[arg-type]  # by its family


def _cannot(text: str, host: str, number: int) -> str:
    which = "" if host in text else f" (at {host})"
    why = _WHY.get(number, f"{os.strerror(number)}. Choose another address")
    return f"cannot listen on {text}{which}: {why}."
