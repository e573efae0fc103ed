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
from pathlib import Path

import psutil

from pool_service.adapters.sock_diag import Listening, listening_sockets

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
        """Where on this machine it is reached."""
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
    """What these processes listen on, on `port` if it is given, in the order to try it."""
    found: list[TcpSocket] = []
    look = _look(port)
    for pid in pids:
        # Where it cannot be seen (gone, or another user's) nothing is proven.
        with contextlib.suppress(psutil.Error, OSError):
            found += look(pid)
    return tuple(sorted(one for one in found if port is None or one.port == port))


def _look(port: int | None) -> Callable[[int], Iterable[TcpSocket]]:
    """What tells which sockets of a process listen now, at least those on `port`."""
    if sys.platform == "linux":
        # Not where netlink is forbidden, as by some sandboxes.
        with contextlib.suppress(OSError):
            sockets = listening_sockets(port)
            return lambda pid: _owned(pid, sockets)
    return lambda pid: _sockets(pid, psutil.CONN_LISTEN)


def _owned(pid: int, sockets: Mapping[int, Listening]) -> Iterator[TcpSocket]:
    """Those of them that a process has, by Linux's names of its descriptors. Raises OSError."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir() if sockets else ():
        # One may be closed meanwhile.
        with contextlib.suppress(FileNotFoundError):
            kind, _, inode = os.readlink(descriptor).partition(":")  # noqa: PTH115  # no path
            found = sockets.get(int(inode[1:-1])) if kind == "socket" else None
            if found is not None:
                yield TcpSocket(found.is_v6, found.host, found.port, pid, int(descriptor.name))


def _sockets(pid: int, status: str) -> list[TcpSocket]:
    return [
        TcpSocket(":" in ip, ip, port, pid, connection.fd)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == status
        for ip, port in (connection.laddr,)
    ]
