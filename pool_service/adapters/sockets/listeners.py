"""Listeners: the listening sockets of a process, which prove that an answer is its own.

Blocking: for a worker thread. On Linux netlink is used if it is permitted, which takes a hundredth
of psutil's time; else psutil.
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
    """A listening TCP socket of a process. Sorts in the order to try them: IPv4 first.

    host: the address as bound, 0.0.0.0 and :: included.
    """

    is_v6: bool
    host: str
    port: int
    pid: int
    descriptor: int

    @property
    def connect_host(self) -> str:
        """The address by which this machine reaches the socket."""
        address = ip_address(self.host.partition("%")[0])
        if address.is_unspecified:
            return _LOOPBACK_V6 if self.is_v6 else _LOOPBACK_V4
        return self.host

    @property
    def url(self) -> str:
        """The base URL of the socket's HTTP server."""
        host = f"[{self.connect_host}]" if self.is_v6 else self.connect_host
        return f"http://{host}:{self.port}"


def listeners(pids: Iterable[int], port: int | None = None) -> tuple[TcpSocket, ...]:
    """Return the listeners of these processes, on `port` if given, in the order to try them.

    A process that is gone or another user's has none here.
    """
    return scan_listeners(pids, port)[0]


def scan_listeners(
    pids: Iterable[int], port: int | None = None
) -> tuple[tuple[TcpSocket, ...], bool]:
    """Return the same, and whether all live processes among them could be read."""
    found: list[TcpSocket] = []
    read, saw_all = _listener_reader(port), True
    for pid in pids:
        try:
            found += read(pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        except (psutil.Error, OSError):
            saw_all = False
    return tuple(sorted(one for one in found if port is None or one.port == port)), saw_all


def _listener_reader(port: int | None) -> Callable[[int], Iterable[TcpSocket]]:
    """Return a function from a pid to its listeners at present, at least those on `port`."""
    if sys.platform == "linux":
        # OSError: netlink is forbidden, as in some sandboxes.
        with contextlib.suppress(OSError):
            sockets = listening_sockets(port)
            return lambda pid: _open_among(pid, sockets)
    return lambda pid: _sockets(pid, psutil.CONN_LISTEN)


def _open_among(pid: int, sockets: Mapping[int, Listening]) -> Iterator[TcpSocket]:
    """Yield those of `sockets` that a process has open. Raises OSError."""
    for descriptor, inode in socket_inodes(pid) if sockets else ():
        found = sockets.get(inode)
        if found is not None:
            yield TcpSocket(found.is_v6, found.host, found.port, pid, descriptor)


def socket_inodes(pid: int) -> Iterator[tuple[int, int]]:
    """Yield the socket descriptors of a process and their inodes (Linux). Raises OSError."""
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - half of what a Path takes
        # The process may have closed it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            kind, _, inode = os.readlink(f"/proc/{pid}/fd/{name}").partition(":")  # noqa: PTH115
            if kind == "socket":
                yield int(name), int(inode[1:-1])


def listening_sockets_of(pid: int) -> list[TcpSocket]:
    """Return a process's listeners, by psutil. Raises psutil.Error, OSError."""
    return _sockets(pid, psutil.CONN_LISTEN)


def _sockets(pid: int, status: str) -> list[TcpSocket]:
    return [
        TcpSocket(":" in ip, ip, port, pid, connection.fd)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == status
        for ip, port in (connection.laddr,)
    ]
