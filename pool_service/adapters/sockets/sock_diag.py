"""TCP sockets of Linux, by netlink's sock_diag.

/proc/net/tcp has the same data, but the kernel walks its table of all connections for it: 5 ms on
a machine with much memory, against 0.05 ms by sock_diag. See exact_queries.py for one socket.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# From <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h> and <net/tcp_states.h>.
NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, _NLMSG_DONE = 2, 3
TCP_LISTEN = 10
ESTABLISHED = 1
CLOSE_WAIT = 8
"""The state in which the peer sends no more, but may wait for an answer."""

# A client that sends no more is in FIN_WAIT1 or FIN_WAIT2.
_SERVER_STATES = 1 << ESTABLISHED | 1 << CLOSE_WAIT
CLIENT_STATES = _SERVER_STATES | 1 << 4 | 1 << 5

HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port id."""

_REQUEST = struct.Struct("=BBBxI2s2s44x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, local port and peer port (0: any);
the rest is zero."""

SOCKET = struct.Struct("!BB2xHH16s16s16x4s4x4s4s")
"""struct inet_diag_msg: family, state, ports and addresses of both ends, unread bytes, uid, inode.
The last three are in the machine's byte order."""

_ERROR = struct.Struct("=i")
_MAX_ANSWER_BYTES = 64 * 1024
"""The largest answer that is read."""

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
    with socket.socket(family, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
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
) -> list[ConnectionEnd]:
    """Return the ends of connections in this network namespace with these ports (0: any).

    With a local port, only ends on which an answer may still be sent. is_v6: search IPv6 (True) or
    IPv4 (False) alone; None: both. For each family the kernel walks its table of all connections,
    which takes a sixth of a millisecond. A listening socket and the connections that it accepts are
    of one family.

    Raises OSError if netlink fails.
    """
    states = _SERVER_STATES if local_port else CLIENT_STATES
    found: list[ConnectionEnd] = []
    # Only Linux has AF_NETLINK.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
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
    flags = NLM_F_REQUEST | _NLM_F_DUMP
    head = HEADER.pack(HEADER.size + len(question), SOCK_DIAG_BY_FAMILY, flags, 0, 0)
    # Only Linux has AF_NETLINK.
    family = getattr(socket, "AF_NETLINK", -1)
    with socket.socket(family, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(_ANSWER_TIMEOUT_S)
        netlink.send(head + question)
        return list(answers(netlink))


def request(family: int, port: int = 0, peer_port: int = 0, states: int = 1 << TCP_LISTEN) -> bytes:
    """Return the dump request for the sockets of one family on these ports (0: any)."""
    ports = port.to_bytes(2, "big"), peer_port.to_bytes(2, "big")
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, *ports)
    flags = NLM_F_REQUEST | _NLM_F_DUMP
    return HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body


def answers(netlink: socket.socket) -> Iterator[bytes]:
    """Yield the kernel's answers to one dump request, a socket each. Raises OSError."""
    while True:
        for kind, body in messages(netlink.recv(_MAX_ANSWER_BYTES)):
            if kind in (NLMSG_ERROR, _NLMSG_DONE):
                # A dump that failed carries its error in NLMSG_DONE.
                number = errno_of(body) if body else 0
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield body


def messages(received: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and body of each netlink message in the received bytes."""
    while len(received) >= HEADER.size:
        length, kind, *_ = HEADER.unpack_from(received)
        if length < HEADER.size:
            return
        yield kind, received[HEADER.size : length]
        # Messages are aligned to four bytes.
        received = received[(length + 3) & ~3 :]


def parse(body: bytes) -> tuple[int, ListeningSocket]:
    """Parse a listening socket; return its inode and address."""
    family, _, port, _, address, _, _, _, inode = unpack(SOCKET, body)
    is_v6 = family == socket.AF_INET6
    return int.from_bytes(inode, sys.byteorder), ListeningSocket(
        is_v6, _host(family, address), port
    )


def parse_connection(body: bytes) -> ConnectionEnd:
    """Parse one end of a connection."""
    family, state, port, peer_port, address, peer, unread, _, inode = unpack(SOCKET, body)
    return ConnectionEnd(
        state=state,
        host=_host(family, address),
        port=port,
        peer_host=_host(family, peer),
        peer_port=peer_port,
        inode=int.from_bytes(inode, sys.byteorder),
        unread=int.from_bytes(unread, sys.byteorder),
    )


def errno_of(body: bytes) -> int:
    """Return the errno of an error message. Raises OSError if the message is malformed."""
    number = -int(unpack(_ERROR, body)[0])
    # The lowest 32-bit number has no positive counterpart.
    return number if number < 1 << 31 else errno.EBADMSG


def unpack(structure: struct.Struct, body: bytes) -> tuple[Any, ...]:
    """Unpack a struct at the start of a message. Raises OSError if the message is too short."""
    if len(body) < structure.size:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    return structure.unpack_from(body)


def _host(family: int, address: bytes) -> str:
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    return socket.inet_ntop(family, address if family == socket.AF_INET6 else address[:4])
