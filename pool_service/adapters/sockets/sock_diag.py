"""Linux's list of the TCP sockets that listen or are connected, as netlink's sock_diag tells it.

/proc/net/tcp says the same, but for it the kernel walks its table of all connections: 5 ms
where there is much memory, against a twentieth of one. Who would get a connection to one
address is told in three microseconds (`ListenerQuestion`).
"""

import contextlib
import errno
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# From <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h> and <net/tcp_states.h>.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCP_LISTEN = 10
ESTABLISHED = 1
CLOSE_WAIT = 8
"""The peer will send no more, but may wait for an answer."""
# Of clients also those that have sent their last: FIN_WAIT1 and FIN_WAIT2.
_SERVER_STATES = 1 << ESTABLISHED | 1 << CLOSE_WAIT
_CLIENT_STATES = _SERVER_STATES | 1 << 4 | 1 << 5

_HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port id."""

_REQUEST = struct.Struct("=BBBxI2s2s44x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, the own and the peer's port (0:
any), no more."""

_EXACT = struct.Struct("=BBBxI2sH16s16xI8s")
"""The same for one socket: after the states the own port, the peer's, the own address, none of
the peer, on any interface (0), whatever its cookie (INET_DIAG_NOCOOKIE)."""

_PEER_PORTS = 0xFFFF

_ANY_COOKIE = b"\xff" * 8

_SOCKET = struct.Struct("!BB2xHH16s16s16x4s8x4s")
"""struct inet_diag_msg: family, state, the ports and the addresses of both ends, the bytes that
the process has not read, and the inode. The last two are in the byte order of the machine."""

_ERROR = struct.Struct("=i")
_LARGEST = 64 * 1024
_LARGEST_ABOUT_ONE = 4096
"""Bytes of an answer; the second of one about one socket, which has some hundred."""
_ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Listening:
    """A socket that listens. host: as it was bound, 0.0.0.0 and :: included."""

    is_v6: bool
    host: str
    port: int


def listening_sockets(port: int | None = None) -> dict[int, Listening]:
    """All of this network namespace, on `port` if it is given, by their inodes.

    Raises OSError where that is not told.
    """
    found: dict[int, Listening] = {}
    # No name of `socket` where there is no netlink.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT_S)
        for wanted in (socket.AF_INET, socket.AF_INET6):
            netlink.send(request(wanted, port or 0))
            found.update(map(parse, answers(netlink)))
    return found


@dataclass(frozen=True, slots=True)
class Connection:
    """One end of a connection.

    inode: 0 if no process has it: it waits to be accepted, or was closed; unread: bytes that
    have come and that its process has not read.
    """

    state: int
    host: str
    port: int
    peer_host: str
    peer_port: int
    inode: int
    unread: int


def connections(
    *, local_port: int = 0, peer_port: int = 0, is_v6: bool | None = None
) -> list[Connection]:
    """Return the ends of this network namespace with these ports, 0: any.

    Of those with a local port that its process may still answer on. is_v6: of sockets of this
    family alone, None: of both; for each the kernel walks its table of all connections, a sixth
    of a millisecond. A socket that listens and what it accepts are of one family. Raises OSError
    where that is not told.
    """
    states = _SERVER_STATES if local_port else _CLIENT_STATES
    families = {True: (socket.AF_INET6,), False: (socket.AF_INET,)}
    wanted_families = (socket.AF_INET, socket.AF_INET6) if is_v6 is None else families[is_v6]
    found: list[Connection] = []
    # No name of `socket` where there is no netlink.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        for wanted in wanted_families:
            netlink.send(request(wanted, local_port, peer_port, states))
            found += map(parse_connection, answers(netlink))
    return found


def dumped(question: bytes) -> list[bytes]:
    """Return the answers to a question for sockets of any kind. Raises OSError."""
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    head = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, flags, 0, 0)
    # No name of `socket` where there is no netlink.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT_S)
        netlink.send(head + question)
        return list(answers(netlink))


class ListenerQuestion:
    """Asks which listening socket a connection to an address would reach; for any thread.

    The kernel finds it as for a connection, in some microseconds. Among sockets that share a
    port (SO_REUSEPORT) it chooses by where the connection is from, so each question asks as from
    another port: one of several questions meets whoever shares it.
    """

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._one_at_a_time = threading.Lock()
        self._sequence = 0
        # Now, so that it is there where descriptors are short later.
        with contextlib.suppress(OSError):
            self._open()

    def inode_at(self, host: str, port: int) -> int | None:
        """Return the inode of the socket that listens there; None: none does.

        Raises OSError where that is not told.
        """
        with self._one_at_a_time:
            try:
                return self._ask(host, port)
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Give back the descriptor; the next question opens another."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def __del__(self) -> None:
        self.close()

    def _ask(self, host: str, port: int) -> int | None:
        netlink = self._netlink or self._open()
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        netlink.send(exact_request(host, port, self._sequence))
        while True:
            told = netlink.recv(_LARGEST_ABOUT_ONE)
            # An answer to an earlier question, which was given up, is none to this.
            if len(told) >= _HEADER.size and _HEADER.unpack_from(told)[3] == self._sequence:
                return _inode_of(told)

    def _open(self) -> socket.socket:
        netlink = socket.socket(
            getattr(socket, "AF_NETLINK", -1), socket.SOCK_RAW, _NETLINK_SOCK_DIAG
        )
        # The kernel answers before the question returns.
        netlink.settimeout(0)
        self._netlink = netlink
        return netlink


def _inode_of(told: bytes) -> int | None:
    for kind, body in messages(told):
        if kind == _NLMSG_ERROR:
            number = _number(body)
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number))
        return int.from_bytes(_unpacked(_SOCKET, body)[-1], sys.byteorder)
    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))


def exact_request(host: str, port: int, sequence: int) -> bytes:
    """Return the question for the socket that listens at one address, as a client would meet it.

    sequence: says also from which port that client is.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = socket.inet_pton(family, host)
    states, own_port = 1 << _TCP_LISTEN, port.to_bytes(2, "big")
    ports = own_port, sequence & _PEER_PORTS
    body = _EXACT.pack(family, socket.IPPROTO_TCP, 0, states, *ports, address, 0, _ANY_COOKIE)
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def request(
    family: int, port: int = 0, peer_port: int = 0, states: int = 1 << _TCP_LISTEN
) -> bytes:
    """The question for the sockets of one family, on one port or (0) on any."""
    ports = port.to_bytes(2, "big"), peer_port.to_bytes(2, "big")
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, *ports)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body


def answers(netlink: socket.socket) -> Iterator[bytes]:
    """What the kernel answers to one question, a socket each. Raises OSError where it refuses."""
    while True:
        for kind, body in messages(netlink.recv(_LARGEST)):
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                # The end of a list that could not be made says why as well.
                number = _number(body) if body else 0
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield body


def messages(told: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the body of each message in what was received."""
    while len(told) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(told)
        if length < _HEADER.size:
            return
        yield kind, told[_HEADER.size : length]
        # Each begins at a multiple of four.
        told = told[(length + 3) & ~3 :]


def parse(body: bytes) -> tuple[int, Listening]:
    """The inode of a socket, and where it listens."""
    family, _, port, _, address, _, _, inode = _unpacked(_SOCKET, body)
    is_v6 = family == socket.AF_INET6
    return int.from_bytes(inode, sys.byteorder), Listening(is_v6, _host(family, address), port)


def parse_connection(body: bytes) -> Connection:
    """One end of a connection."""
    family, state, port, peer_port, address, peer, unread, inode = _unpacked(_SOCKET, body)
    return Connection(
        state=state,
        host=_host(family, address),
        port=port,
        peer_host=_host(family, peer),
        peer_port=peer_port,
        inode=int.from_bytes(inode, sys.byteorder),
        unread=int.from_bytes(unread, sys.byteorder),
    )


def _number(body: bytes) -> int:
    """Return the number of an error. Raises OSError where the message tells none."""
    number = -int(_unpacked(_ERROR, body)[0])
    # The lowest number has no positive one of its size.
    return number if number < 1 << 31 else errno.EBADMSG


def _unpacked(structure: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """Return what a message begins with. Raises OSError where it is too short."""
    if len(body) < structure.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    return structure.unpack_from(body)


def _host(family: int, address: bytes) -> str:
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    return socket.inet_ntop(family, address if family == socket.AF_INET6 else address[:4])
