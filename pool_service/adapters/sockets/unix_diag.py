"""Unix sockets of Linux, by netlink's sock_diag.

A server may accept requests at a unix socket besides its port. The server's end of an accepted
connection has the name of the listening socket, and the kernel gives the inode of the other end.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pool_service.adapters.sockets.sock_diag import dump

# From <linux/unix_diag.h> and <net/tcp_states.h>.
_REQUEST = struct.Struct("=BBxxIIIII")
"""struct unix_diag_req: family, protocol, states, inode (0: any), attributes to show, no cookie."""

_MESSAGE = struct.Struct("=xxBxI8x")
"""struct unix_diag_msg: the state and the inode."""

_ATTRIBUTE = struct.Struct("=HH")
_NAME, _PEER, _QUEUES = 0, 2, 4
_SHOWN = 1 << 0 | 1 << 2 | 1 << 4
"""UDIAG_SHOW_NAME, UDIAG_SHOW_PEER, UDIAG_SHOW_RQLEN."""

_ESTABLISHED, _LISTEN = 1, 10
_NUMBER = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """A listening unix socket, or one end of a connection.

    name: the bound name; an accepted connection has that of its listening socket.
    peer: the inode of the other end; 0 if the other end is gone.
    waiting: the number of connections to a listening socket that are not accepted yet.
    """

    is_listening: bool
    name: bytes
    inode: int
    peer: int
    waiting: int


def unix_sockets() -> list[UnixSocket]:
    """Return all unix sockets of this network namespace that have a name. Raises OSError."""
    states = 1 << _ESTABLISHED | 1 << _LISTEN
    body = _REQUEST.pack(socket.AF_UNIX, 0, states, 0, _SHOWN, 0, 0)
    return [one for one in map(parse, dump(body)) if one.name]


def parse(body: bytes) -> UnixSocket:
    """Parse the message of one socket. Raises OSError if it is too short."""
    if len(body) < _MESSAGE.size:
        raise OSError("the message of a unix socket is too short")
    state, inode = _MESSAGE.unpack_from(body)
    attributes = dict(_attributes(body[_MESSAGE.size :]))
    is_listening = state == _LISTEN
    return UnixSocket(
        is_listening=is_listening,
        name=attributes.get(_NAME, b""),
        inode=inode,
        peer=_number(attributes.get(_PEER, b"")),
        waiting=_number(attributes.get(_QUEUES, b"")) if is_listening else 0,
    )


def _number(attributes: bytes) -> int:
    return int(_NUMBER.unpack_from(attributes)[0]) if len(attributes) >= _NUMBER.size else 0


def _attributes(attributes: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and value of each attribute that follows a message."""
    while len(attributes) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(attributes)
        if length < _ATTRIBUTE.size:
            return
        yield kind, attributes[_ATTRIBUTE.size : length]
        attributes = attributes[(length + 3) & ~3 :]


def has_unix_clients(own: frozenset[int]) -> bool:
    """Return whether clients are connected to one of a server's unix sockets.

    own: inodes of the server's sockets. Raises OSError if netlink fails.
    """
    sockets = [one for one in unix_sockets() if one.inode in own]
    listening = {one.name: one.waiting for one in sockets if one.is_listening}
    return any(listening.values()) or any(
        one.name in listening and one.peer and one.peer not in own
        for one in sockets
        if not one.is_listening
    )
