"""The TCP sockets of one process of macOS, as libproc tells them. Not yet run on a Mac.

Numbers and layouts are those of <sys/proc_info.h> of xnu-11417.101.15, what is in them of
bsd/kern/socket_info.c. Each process of the own user may be asked, without other rights
(proc_security_policy in bsd/kern/proc_info.c). A question takes the kernel no more than a look
at one descriptor.
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
"""TSI_S_LISTEN and so on: the peer of the last will send no more, but may wait for an answer."""

_LIBRARY = "/usr/lib/libproc.dylib"
_PROC_PIDLISTFDS, _PROC_PIDFDSOCKETINFO = 1, 3
_PROX_FDTYPE_SOCKET, _SOCKINFO_TCP, _INI_IPV6 = 2, 2, 2

_DESCRIPTOR = struct.Struct("=iI")
"""struct proc_fdinfo: the descriptor, and of which type it is."""

_SIZE = 792
"""Bytes of a struct socket_fdinfo."""

_SOCKET = struct.Struct("=184xi6xhh10xI44xi4xiiQ8xB7x16s16s16xi")
"""Of it: soi_family, soi_qlen, soi_incqlen, sbi_cc of soi_rcv, soi_kind, insi_fport, insi_lport,
insi_gencnt, insi_vflag, insi_faddr, insi_laddr, tcpsi_state."""


@dataclass(frozen=True, slots=True)
class ProcessSocket:
    """A TCP socket behind a descriptor of a process.

    generation: a number that no other socket has had since the boot; unread: bytes that have
    come and that the process has not read, without the end of what the peer sends; queued:
    connections to one that listens that it has not accepted.
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
    """A socket that was found to listen, and by which descriptor of which process."""

    pid: int
    descriptor: int
    generation: int

    @classmethod
    def at(cls, pid: int, descriptor: int) -> "KnownListener":
        """Return the one behind this descriptor. Raises OSError."""
        found = socket_at(pid, descriptor)
        if found is None:
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        return cls(pid, descriptor, found.generation)

    def listens(self) -> bool:
        """Whether the descriptor still leads to it, and it listens; quick."""
        try:
            found = socket_at(self.pid, self.descriptor)
        except OSError:
            return False
        return found is not None and found.generation == self.generation and found.state == LISTEN


def sockets_of(pid: int) -> Iterator[ProcessSocket]:
    """Yield the TCP sockets of a process. Raises OSError where that is not told."""
    for descriptor, kind in _DESCRIPTOR.iter_unpack(_descriptors(pid)):
        if kind == _PROX_FDTYPE_SOCKET:
            try:
                found = socket_at(pid, descriptor)
            except OSError as error:
                # It was closed meanwhile.
                if error.errno != errno.EBADF:
                    raise
                continue
            if found is not None:
                yield found


def socket_at(pid: int, descriptor: int) -> ProcessSocket | None:
    """Return the socket behind a descriptor; None: one of another protocol.

    Raises OSError where there is none, or it is not told.
    """
    raw = ctypes.create_string_buffer(_SIZE)
    ctypes.set_errno(0)
    got = _libproc().proc_pidfdinfo(pid, descriptor, _PROC_PIDFDSOCKETINFO, raw, _SIZE)
    if got != _SIZE:
        _fail()
    return parse(descriptor, raw.raw)


def parse(descriptor: int, raw: bytes) -> ProcessSocket | None:
    """Read a struct socket_fdinfo; None: of another protocol than TCP."""
    family, queued, incomplete, unread, kind, *rest = _SOCKET.unpack_from(raw)
    peer_port, port, generation, versions, peer, address, state = rest
    if kind != _SOCKINFO_TCP:
        return None
    # One of IPv6 that speaks IPv4 holds addresses as one of IPv4 does.
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
        # The one number is of all, the other of those that are not yet connected.
        max(queued - incomplete, 0),
    )


def _host(address: bytes, *, is_v6: bool) -> str:
    return socket.inet_ntop(
        *((socket.AF_INET6, address) if is_v6 else (socket.AF_INET, address[12:]))
    )


def _descriptors(pid: int) -> bytes:
    """Return the list of a process's descriptors. Raises OSError."""
    library = _libproc()
    ctypes.set_errno(0)
    # What it says without a buffer is enough and some more; it may open others meanwhile.
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
