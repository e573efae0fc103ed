"""Linux's list of the TCP sockets that listen, as netlink's sock_diag tells it.

/proc/net/tcp says the same, but for it the kernel walks its table of all connections: 5 ms
where there is much memory, against a twentieth of one.
"""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

# From <linux/netlink.h>, <linux/sock_diag.h>, <linux/inet_diag.h> and <net/tcp_states.h>.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TCP_LISTEN = 10

_HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port id."""

_REQUEST = struct.Struct("=BBBxI2s46x")
"""struct inet_diag_req_v2: family, protocol, extensions, states, the own port (0: any), no more."""

_SOCKET = struct.Struct("!B3xH2x16s44x4s")
"""struct inet_diag_msg: family, the own port, the own address, and the inode."""

_ERROR = struct.Struct("=i")
_LARGEST = 64 * 1024
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
            found.update(answers(netlink))
    return found


def request(family: int, port: int = 0) -> bytes:
    """The question for the listening sockets of one family, on one port or (0) on any."""
    states = 1 << _TCP_LISTEN
    body = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, states, port.to_bytes(2, "big"))
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body


def answers(netlink: socket.socket) -> Iterator[tuple[int, Listening]]:
    """What the kernel answers to one question. Raises OSError where it refuses."""
    while True:
        for kind, body in messages(netlink.recv(_LARGEST)):
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                # The end of a list that could not be made says why as well.
                number = -_ERROR.unpack_from(body)[0] if body else 0
                if number:
                    raise OSError(number, os.strerror(number))
                return
            yield parse(body)


def messages(told: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the body of each message in what was received."""
    while len(told) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(told)
        yield kind, told[_HEADER.size : length]
        # Each begins at a multiple of four.
        told = told[(length + 3) & ~3 :]


def parse(body: bytes) -> tuple[int, Listening]:
    """The inode of a socket, and where it listens."""
    family, port, address, inode = _SOCKET.unpack_from(body)
    is_v6 = family == socket.AF_INET6
    host = socket.inet_ntop(family, address if is_v6 else address[:4])
    return int.from_bytes(inode, sys.byteorder), Listening(is_v6, host, port)
