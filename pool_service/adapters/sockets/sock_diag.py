"""TCP sockets of Linux, by netlink's sock_diag.

/proc/net/tcp has the same data, but the kernel walks its table of all connections for it: 5 ms on
a machine with much memory, against 0.05 ms by sock_diag. To ask for the one listener that a
connection to an address would reach takes three microseconds (`ListenerQuery`).
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
"""The state in which the peer sends no more, but may wait for an answer."""

# A client that sends no more is in FIN_WAIT1 or FIN_WAIT2.
_SERVER_STATES = 1 << ESTABLISHED | 1 << CLOSE_WAIT
_CLIENT_STATES = _SERVER_STATES | 1 << 4 | 1 << 5

_HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port id."""

_REQUEST = struct.Struct("=BBBxI2s2s44x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, local port and peer port (0: any);
the rest is zero."""

_EXACT = struct.Struct("=BBBxI2s2s16s16sI8s")
"""The same struct for one socket: after the states the ports and the addresses of its own end and
of its peer's, any interface (0), any cookie (INET_DIAG_NOCOOKIE)."""

_PORTS = 0x10000

_ANY_COOKIE = b"\xff" * 8

_SOCKET = struct.Struct("!BB2xHH16s16s16x4s4x4s4s")
"""struct inet_diag_msg: family, state, ports and addresses of both ends, unread bytes, uid, inode.
The last three are in the machine's byte order."""

_ERROR = struct.Struct("=i")
_MAX_ANSWER_BYTES = 64 * 1024
_MAX_EXACT_ANSWER_BYTES = 4096
"""The largest answers that are read; one about a single socket has some hundred bytes."""

_ANSWER_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A listening socket, of any process. host: the address as bound, 0.0.0.0 and :: included."""

    is_v6: bool
    host: str
    port: int


def listening_sockets(
    port: int | None = None, *, is_v6: bool | None = None
) -> dict[int, ListeningSocket]:
    """Return the listening sockets of this network namespace, on `port` if given, by inode.

    is_v6: search IPv6 (True) or IPv4 (False) alone; None: both. Raises OSError if netlink fails.
    """
    found: dict[int, ListeningSocket] = {}
    # Only Linux has AF_NETLINK.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT_S)
        for wanted in _families(is_v6):
            netlink.send(request(wanted, port or 0))
            found.update(map(parse, answers(netlink)))
    return found


@dataclass(frozen=True, slots=True)
class ConnectionEnd:
    """One end of a connection; `host` and `port` are its own, and the peer is the other end.

    inode: 0 if no process has the socket, as it is not accepted yet or was closed.
    unread: received bytes that the socket's process has not read.
    user: the uid that made the socket; of no meaning if the inode is 0.
    """

    state: int
    host: str
    port: int
    peer_host: str
    peer_port: int
    inode: int
    unread: int
    user: int = 0


def connections(
    *, local_port: int = 0, peer_port: int = 0, is_v6: bool | None = None
) -> list[ConnectionEnd]:
    """Return the ends of connections in this network namespace with these ports (0: any).

    With a local port, only ends on which an answer may still be sent. is_v6: search IPv6 (True) or
    IPv4 (False) alone; None: both. For each family the kernel walks its table of all connections,
    which takes a sixth of a millisecond. A listening socket and the connections that it accepts are
    of one family.

    Raises OSError if netlink fails.
    """
    states = _SERVER_STATES if local_port else _CLIENT_STATES
    found: list[ConnectionEnd] = []
    # Only Linux has AF_NETLINK.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        for wanted in _families(is_v6):
            netlink.send(request(wanted, local_port, peer_port, states))
            found += map(parse_connection, answers(netlink))
    return found


def _families(is_v6: bool | None) -> tuple[int, ...]:  # noqa: FBT001 - as callers are given it
    """Return the address families to search; None: both."""
    if is_v6 is None:
        return socket.AF_INET, socket.AF_INET6
    return (socket.AF_INET6 if is_v6 else socket.AF_INET,)


def dump(question: bytes) -> list[bytes]:
    """Send a dump request for sockets of any kind and return the answers. Raises OSError."""
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    head = _HEADER.pack(_HEADER.size + len(question), _SOCK_DIAG_BY_FAMILY, flags, 0, 0)
    # Only Linux has AF_NETLINK.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT_S)
        netlink.send(head + question)
        return list(answers(netlink))


class ExactQuery:
    """Asks the kernel about one socket, in some microseconds. Thread-safe."""

    def __init__(self) -> None:
        self._netlink: socket.socket | None = None
        self._one_at_a_time = threading.Lock()
        self._sequence = 0
        # Opened now, as descriptors may be short later.
        with contextlib.suppress(OSError):
            self._open()

    def find(self, states: int, end: tuple[str, int], peer: tuple[str, int] | None) -> bytes | None:
        """Return the kernel's answer about the socket with these ends; None if there is none.

        states: a bit for each state of the socket. peer: its other end; None: another client's
        with each question. Raises OSError if netlink fails.
        """
        with self._one_at_a_time:
            try:
                return self._ask(states, end, peer)
            except OSError:
                self.close()
                raise

    def close(self) -> None:
        """Close the netlink socket; the next question opens another."""
        if self._netlink is not None:
            self._netlink.close()
            self._netlink = None

    def __del__(self) -> None:
        self.close()

    def _ask(self, states: int, end: tuple[str, int], peer: tuple[str, int] | None) -> bytes | None:
        netlink = self._netlink or self._open()
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        netlink.send(exact_request(states, end, peer, self._sequence))
        while True:
            received = netlink.recv(_MAX_EXACT_ANSWER_BYTES)
            # Skip answers to earlier questions that were given up.
            if len(received) >= _HEADER.size and _HEADER.unpack_from(received)[3] == self._sequence:
                return _body_of(received)

    def _open(self) -> socket.socket:
        netlink = socket.socket(
            getattr(socket, "AF_NETLINK", -1), socket.SOCK_RAW, _NETLINK_SOCK_DIAG
        )
        # No wait: the kernel has answered by the time that `send` returns.
        netlink.settimeout(0)
        self._netlink = netlink
        return netlink


class ListenerQuery:
    """Asks the kernel which listening socket a connection would reach. Thread-safe.

    The kernel looks the socket up as for a new connection. Among sockets that share a port
    (SO_REUSEPORT) it chooses by the client's address. So each question names another client port,
    and several questions will reach every socket that shares the port.
    """

    def __init__(self) -> None:
        self._query = ExactQuery()

    def inode_at(self, host: str, port: int) -> int | None:
        """Return the inode of the socket that listens at this address; None if none does.

        Raises OSError if netlink fails.
        """
        body = self._query.find(1 << _TCP_LISTEN, (host, port), None)
        return None if body is None else _inode_of(body)

    def close(self) -> None:
        """Close the netlink socket; the next question opens another."""
        self._query.close()


class ConnectionQuery:
    """Asks the kernel about one end of one connection. Thread-safe."""

    def __init__(self) -> None:
        self._query = ExactQuery()

    def find(self, end: tuple[str, int], peer: tuple[str, int]) -> ConnectionEnd | None:
        """Return the end of a connection that is between these; None if no process has it.

        Raises OSError if netlink fails.
        """
        body = self._query.find(_CLIENT_STATES, end, peer)
        if body is None:
            return None
        found = parse_connection(body)
        # Without such a connection, the kernel answers with a socket that listens there. What
        # has been closed but lingers has no inode, and a uid that is not its owner's.
        own, other = (_plain(found.host), found.port), (_plain(found.peer_host), found.peer_port)
        is_it = own == end and other == peer
        is_open = found.inode != 0 and bool(1 << found.state & _CLIENT_STATES)
        return found if is_it and is_open else None


def _plain(host: str) -> str:
    """Return an address without the prefix by which an IPv6 socket has one of IPv4 (RFC 4291)."""
    return host.removeprefix("::ffff:")


def _body_of(received: bytes) -> bytes | None:
    """Return the answer about one socket; None if there is no such socket.

    Raises OSError if the answer is another error or malformed.
    """
    for kind, body in messages(received):
        if kind == _NLMSG_ERROR:
            number = _errno_of(body)
            if number == errno.ENOENT:
                return None
            raise OSError(number, os.strerror(number))
        return body
    raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))


def _inode_of(body: bytes) -> int:
    return int.from_bytes(_unpack(_SOCKET, body)[-1], sys.byteorder)


def exact_request(
    states: int, end: tuple[str, int], peer: tuple[str, int] | None, sequence: int
) -> bytes:
    """Return the request for the socket with these ends.

    peer: None: any, from a port that the sequence names. sequence: the message's number.
    """
    host, port = end
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    peer_host, peer_port = peer or ("::" if family == socket.AF_INET6 else "0.0.0.0", sequence)  # noqa: S104
    ports = (one.to_bytes(2, "big") for one in (port, peer_port % _PORTS))
    addresses = (socket.inet_pton(family, one) for one in (host, peer_host))
    body = _EXACT.pack(family, socket.IPPROTO_TCP, 0, states, *ports, *addresses, 0, _ANY_COOKIE)
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence, 0) + body


def request(
    family: int, port: int = 0, peer_port: int = 0, states: int = 1 << _TCP_LISTEN
) -> bytes:
    """Return the dump request for the sockets of one family on these ports (0: any)."""
    ports = port.to_bytes(2, "big"), peer_port.to_bytes(2, "big")
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, *ports)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body


def answers(netlink: socket.socket) -> Iterator[bytes]:
    """Yield the kernel's answers to one dump request, a socket each. Raises OSError."""
    while True:
        for kind, body in messages(netlink.recv(_MAX_ANSWER_BYTES)):
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                # A dump that failed carries its error in NLMSG_DONE.
                number = _errno_of(body) if body else 0
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield body


def messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and body of each netlink message in the received bytes."""
    while len(received) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(received)
        if length < _HEADER.size:
            return
        yield kind, received[_HEADER.size : length]
        # Messages are aligned to four bytes.
        received = received[(length + 3) & ~3 :]


def parse(body: bytes) -> tuple[int, ListeningSocket]:
    """Parse a listening socket; return its inode and address."""
    family, _, port, _, address, _, _, _, inode = _unpack(_SOCKET, body)
    is_v6 = family == socket.AF_INET6
    return int.from_bytes(inode, sys.byteorder), ListeningSocket(
        is_v6, _host(family, address), port
    )


def parse_connection(body: bytes) -> ConnectionEnd:
    """Parse one end of a connection."""
    family, state, port, peer_port, address, peer, unread, user, inode = _unpack(_SOCKET, body)
    return ConnectionEnd(
        state=state,
        host=_host(family, address),
        port=port,
        peer_host=_host(family, peer),
        peer_port=peer_port,
        inode=int.from_bytes(inode, sys.byteorder),
        unread=int.from_bytes(unread, sys.byteorder),
        user=int.from_bytes(user, sys.byteorder),
    )


def _errno_of(body: bytes) -> int:
    """Return the errno of an error message. Raises OSError if the message is malformed."""
    number = -int(_unpack(_ERROR, body)[0])
    # The lowest 32-bit number has no positive counterpart.
    return number if number < 1 << 31 else errno.EBADMSG


def _unpack(structure: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """Unpack a struct at the start of a message. Raises OSError if the message is too short."""
    if len(body) < structure.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    return structure.unpack_from(body)


def _host(family: int, address: bytes) -> str:
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    return socket.inet_ntop(family, address if family == socket.AF_INET6 else address[:4])
