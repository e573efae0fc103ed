"""TCP sockets of a macOS process, by libproc. Not yet run on a Mac.

Constants and layouts are from <sys/proc_info.h> of xnu-11417.101.15, their meaning from
bsd/kern/socket_info.c. Every process of the same user may be queried without further rights
(proc_security_policy in bsd/kern/proc_info.c). A query reads one descriptor.
"""

import ctypes
import errno
import functools
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

LISTEN, ESTABLISHED, CLOSE_WAIT = 1, 4, 5
"""TSI_S_LISTEN and so on. In CLOSE_WAIT the peer sends no more, but may wait for an answer."""

_LIBRARY = "/usr/lib/libproc.dylib"
_PROC_PIDLISTFDS, _PROC_PIDFDSOCKETINFO = 1, 3
_PROX_FDTYPE_SOCKET, _SOCKINFO_TCP, _INI_IPV6 = 2, 2, 2

_DESCRIPTOR = struct.Struct("=iI")
"""struct proc_fdinfo: the descriptor and its type."""

_SOCKET_INFO_BYTES = 792
"""The size of a struct socket_fdinfo."""

_SOCKET = struct.Struct("=184xi6xhh10xI44xi4xiiQ8xB7x16s16s16xi")
"""Fields of struct socket_fdinfo: soi_family, soi_qlen, soi_incqlen, sbi_cc of soi_rcv, soi_kind,
insi_fport, insi_lport, insi_gencnt, insi_vflag, insi_faddr, insi_laddr, tcpsi_state."""


@dataclass(frozen=True, slots=True)
class ProcessSocket:
    """A TCP socket behind a descriptor of a process.

    generation: a number that no other socket has had since the boot.
    unread: received bytes that the process has not read; the peer's FIN does not count.
    queued: connections to a listening socket that are not accepted yet.
    """

    descriptor: int
    generation: int
    state: int
    host: str
    port: int
    peer_host: str
    peer_port: int
    unread: int
    queued: int


@dataclass(frozen=True, slots=True)
class KnownListener:
    """A listening socket, and the descriptor and process by which it was found."""

    pid: int
    descriptor: int
    generation: int

    @classmethod
    def at(cls, pid: int, descriptor: int) -> "KnownListener":
        """Return the listener behind a descriptor of a process. Raises OSError."""
        found = socket_at(pid, descriptor)
        if found is None:
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        return cls(pid, descriptor, found.generation)

    def listens(self) -> bool:
        """Return whether the descriptor still leads to this socket and it listens; quick."""
        try:
            found = socket_at(self.pid, self.descriptor)
        except OSError:
            return False
        return found is not None and found.generation == self.generation and found.state == LISTEN


def sockets_of(pid: int) -> Iterator[ProcessSocket]:
    """Yield the TCP sockets of a process. Raises OSError if they cannot be read."""
    for descriptor, kind in _DESCRIPTOR.iter_unpack(_descriptors(pid)):
        if kind == _PROX_FDTYPE_SOCKET:
            try:
                found = socket_at(pid, descriptor)
            except OSError as error:
                # EBADF: the process has closed the descriptor meanwhile.
                if error.errno != errno.EBADF:
                    raise
                continue
            if found is not None:
                yield found


def socket_at(pid: int, descriptor: int) -> ProcessSocket | None:
    """Return the TCP socket behind a descriptor; None if it is of another protocol.

    Raises OSError if there is no socket, or it cannot be read.
    """
    raw = ctypes.create_string_buffer(_SOCKET_INFO_BYTES)
    ctypes.set_errno(0)
    got = _libproc().proc_pidfdinfo(pid, descriptor, _PROC_PIDFDSOCKETINFO, raw, _SOCKET_INFO_BYTES)
    if got != _SOCKET_INFO_BYTES:
        _fail()
    return parse(descriptor, raw.raw)


def parse(descriptor: int, raw: bytes) -> ProcessSocket | None:
    """Parse a struct socket_fdinfo; return None if it is not of a TCP socket."""
    family, queued, incomplete, unread, kind, *rest = _SOCKET.unpack_from(raw)
    peer_port, port, generation, versions, peer, address, state = rest
    if kind != _SOCKINFO_TCP:
        return None
    # An IPv6 socket that speaks IPv4 holds IPv4 addresses.
    is_v6 = family != socket.AF_INET and bool(versions & _INI_IPV6)
    return ProcessSocket(
        descriptor,
        generation,
        state,
        _host(address, is_v6=is_v6),
        socket.ntohs(port & 0xFFFF),
        _host(peer, is_v6=is_v6),
        socket.ntohs(peer_port & 0xFFFF),
        unread,
        # The queue includes incomplete connections, which are not established yet.
        max(queued - incomplete, 0),
    )


def _host(address: bytes, *, is_v6: bool) -> str:
    return socket.inet_ntop(
        *((socket.AF_INET6, address) if is_v6 else (socket.AF_INET, address[12:]))
    )


def _descriptors(pid: int) -> bytes:
    """Return a process's descriptors as an array of struct proc_fdinfo. Raises OSError."""
    library = _libproc()
    ctypes.set_errno(0)
    # Without a buffer the call returns a size that suffices unless the process opens many more.
    size = library.proc_pidinfo(pid, _PROC_PIDLISTFDS, 0, None, 0)
    while size > 0:
        raw = ctypes.create_string_buffer(size)
        got: int = library.proc_pidinfo(pid, _PROC_PIDLISTFDS, 0, raw, size)
        if 0 < got < size:
            return raw.raw[: got - got % _DESCRIPTOR.size]
        size = 2 * size if got > 0 else 0
    _fail()
    return b""


def _fail() -> None:
    number = ctypes.get_errno() or errno.EBADMSG
    raise OSError(number, os.strerror(number))


@functools.cache
def _libproc() -> ctypes.CDLL:
    number, buffer = ctypes.c_int, ctypes.c_void_p
    library = ctypes.CDLL(_LIBRARY, use_errno=True)
    library.proc_pidinfo.argtypes = (number, number, ctypes.c_uint64, buffer, number)
    library.proc_pidfdinfo.argtypes = (number, number, number, buffer, number)
    return library
