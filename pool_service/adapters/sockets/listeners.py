"""Which sockets a process has: the proof that an answer is its own.

Blocking: for a worker thread. psutil holds what differs between Linux and macOS; where Linux
tells what listens without it, that takes a hundredth of the time.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

import psutil

from pool_service.adapters.sockets.sock_diag import Listening, listening_sockets

_LOOPBACK_V4 = "127.0.0.1"
_LOOPBACK_V6 = "::1"


@dataclass(frozen=True, slots=True, order=True)
class TcpSocket:
    """A TCP socket of a process: whose, by which of its descriptors, and where.

    host: as it was bound, 0.0.0.0 and :: included. Orders as it should be tried: IPv4 first.
    """

    is_v6: bool
    host: str
    port: int
    pid: int
    descriptor: int

    @property
    def connect_host(self) -> str:
        """The address by which the socket is reached on this machine."""
        address = ip_address(self.host.partition("%")[0])
        if address.is_unspecified:
            return _LOOPBACK_V6 if self.is_v6 else _LOOPBACK_V4
        return self.host

    @property
    def url(self) -> str:
        """The base URL."""
        host = f"[{self.connect_host}]" if self.is_v6 else self.connect_host
        return f"http://{host}:{self.port}"


def listeners(pids: Iterable[int], port: int | None = None) -> tuple[TcpSocket, ...]:
    """Return what these processes listen on, on `port` if it is given, in the order to try it.

    Where it cannot be seen (gone, or another user's) nothing is proven.
    """
    return seen_listeners(pids, port)[0]


def seen_listeners(
    pids: Iterable[int], port: int | None = None
) -> tuple[tuple[TcpSocket, ...], bool]:
    """Return what these processes listen on, and whether all that live could be looked at."""
    found: list[TcpSocket] = []
    look, saw_all = _look(port), True
    for pid in pids:
        try:
            found += look(pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        except (psutil.Error, OSError):
            saw_all = False
    return tuple(sorted(one for one in found if port is None or one.port == port)), saw_all


def _look(port: int | None) -> Callable[[int], Iterable[TcpSocket]]:
    """Return what tells which sockets of a process listen now, at least those on `port`."""
    if sys.platform == "linux":
        # Not where netlink is forbidden, as by some sandboxes.
        with contextlib.suppress(OSError):
            sockets = listening_sockets(port)
            return lambda pid: _owned(pid, sockets)
    return lambda pid: _sockets(pid, psutil.CONN_LISTEN)


def _owned(pid: int, sockets: Mapping[int, Listening]) -> Iterator[TcpSocket]:
    """Yield those of the sockets that a process has, by its descriptors. Raises OSError."""
    for descriptor, inode in socket_inodes(pid) if sockets else ():
        found = sockets.get(inode)
        if found is not None:
            yield TcpSocket(found.is_v6, found.host, found.port, pid, descriptor)


def socket_inodes(pid: int) -> Iterator[tuple[int, int]]:
    """Linux: yield each descriptor of a process that leads to a socket, and to which.

    Raises OSError.
    """
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - half of what a Path takes
        # One may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            kind, _, inode = os.readlink(f"/proc/{pid}/fd/{name}").partition(":")  # noqa: PTH115
            if kind == "socket":
                yield int(name), int(inode[1:-1])


def listening_sockets_of(pid: int) -> list[TcpSocket]:
    """Return what a process listens on, as psutil tells it. Raises psutil.Error, OSError."""
    return _sockets(pid, psutil.CONN_LISTEN)


def _sockets(pid: int, status: str) -> list[TcpSocket]:
    return [
        TcpSocket(":" in ip, ip, port, pid, connection.fd)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == status
        for ip, port in (connection.laddr,)
    ]
