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

from pool_service.adapters.sockets.sock_diag import ListeningSocket, listening_sockets

_LOOPBACK_V4 = "127.0.0.1"
_LOOPBACK_V6 = "::1"


@dataclass(frozen=True, slots=True, order=True)
class Listener:
    """A listening TCP socket of a process. Sorts in the order in which to probe: IPv4 first.

    host: the address as bound, 0.0.0.0 and :: included.
    descriptor: the process's descriptor of the socket.
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

    def is_at(self, host: str) -> bool:
        """Return whether the socket is bound to exactly this IP address; empty: any will do."""
        return not host or ip_address(self.host.partition("%")[0]) == ip_address(host)

    @property
    def url(self) -> str:
        """The base URL of the socket's HTTP server."""
        return self._url_at(self.connect_host)

    @property
    def bound_url(self) -> str:
        """The base URL with the address as bound, which may stand for all addresses."""
        return self._url_at(self.host)

    def _url_at(self, host: str) -> str:
        return f"http://[{host}]:{self.port}" if self.is_v6 else f"http://{host}:{self.port}"


def listeners(pids: Iterable[int], port: int | None = None) -> tuple[Listener, ...]:
    """Return the listeners of these processes, on `port` if given, in the order in which to probe.

    A process that is gone, or that may not be read, counts as one without listeners.
    """
    return scan_listeners(pids, port)[0]


def scan_listeners(
    pids: Iterable[int], port: int | None = None
) -> tuple[tuple[Listener, ...], bool]:
    """Return the `listeners` of these processes, and whether every live process could be read."""
    found: list[Listener] = []
    read, saw_all = _listener_reader(port), True
    for pid in pids:
        try:
            found += read(pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        except (psutil.Error, OSError):
            saw_all = False
    return tuple(sorted(one for one in found if port is None or one.port == port)), saw_all


def _listener_reader(port: int | None) -> Callable[[int], Iterable[Listener]]:
    """Return a function from a pid to its listeners at present, at least those on `port`."""
    if sys.platform == "linux":
        # OSError: netlink is forbidden, as in some sandboxes.
        with contextlib.suppress(OSError):
            sockets = listening_sockets(port)
            return lambda pid: _open_among(pid, sockets)
    return listeners_by_psutil


def _open_among(pid: int, sockets: Mapping[int, ListeningSocket]) -> Iterator[Listener]:
    """Yield the listeners of a process. Raises OSError.

    sockets: all listening sockets of the machine, by inode.
    """
    for descriptor, inode in socket_inodes(pid) if sockets else ():
        found = sockets.get(inode)
        if found is not None:
            yield Listener(found.is_v6, found.host, found.port, pid, descriptor)


def socket_inodes(pid: int) -> Iterator[tuple[int, int]]:
    """Yield each socket of a process, as descriptor and inode (Linux). Raises OSError."""
    for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - half of what a Path takes
        # The process may have closed the descriptor meanwhile.
        with contextlib.suppress(FileNotFoundError):
            kind, _, inode = os.readlink(f"/proc/{pid}/fd/{name}").partition(":")  # noqa: PTH115
            if kind == "socket":
                yield int(name), int(inode[1:-1])


def listeners_by_psutil(pid: int) -> list[Listener]:
    """Return a process's listeners, by psutil. Raises psutil.Error, OSError."""
    return [
        Listener(":" in ip, ip, port, pid, connection.fd)
        for connection in psutil.Process(pid).net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        for ip, port in (connection.laddr,)
    ]
