"""Linux's list of the unix sockets that listen or are connected, as netlink's sock_diag tells it.

A server may take requests at such a socket besides its port. What it accepted there has the
name of the socket that listens, and the kernel tells at whose other end it is.
"""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pool_service.adapters.sockets.sock_diag import dumped

# From <linux/unix_diag.h> and <net/tcp_states.h>.
_REQUEST = struct.Struct("=BBxxIIIII")
"""struct unix_diag_req: family, protocol, states, inode (0: any), what to show, no cookie."""

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
    """Tells of one unix socket: one that listens, or an end of a connection.

    name: as it was bound, and of what it accepted; peer: the inode of the other end, 0 if that is
    gone; waiting: how many wait to be accepted, of one that listens.
    """

    is_listening: bool
    name: bytes
    inode: int
    peer: int
    waiting: int


def unix_sockets() -> list[UnixSocket]:
    """Return all of this network namespace that have a name. Raises OSError."""
    states = 1 << _ESTABLISHED | 1 << _LISTEN
    body = _REQUEST.pack(socket.AF_UNIX, 0, states, 0, _SHOWN, 0, 0)
    return [one for one in map(parse, dumped(body)) if one.name]


def parse(body: bytes) -> UnixSocket:
    """Return what one message tells. Raises OSError where it is too short."""
    if len(body) < _MESSAGE.size:
        raise OSError("the message of a unix socket is too short")
    state, inode = _MESSAGE.unpack_from(body)
    told = dict(_attributes(body[_MESSAGE.size :]))
    is_listening = state == _LISTEN
    return UnixSocket(
        is_listening=is_listening,
        name=told.get(_NAME, b""),
        inode=inode,
        peer=_number(told.get(_PEER, b"")),
        waiting=_number(told.get(_QUEUES, b"")) if is_listening else 0,
    )


def _number(told: bytes) -> int:
    return int(_NUMBER.unpack_from(told)[0]) if len(told) >= _NUMBER.size else 0


def _attributes(told: bytes) -> Iterator[tuple[int, bytes]]:
    while len(told) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(told)
        if length < _ATTRIBUTE.size:
            return
        yield kind, told[_ATTRIBUTE.size : length]
        told = told[(length + 3) & ~3 :]


def is_any_used(own: frozenset[int]) -> bool:
    """Return whether others are connected to a socket that is among the own ones, by inodes.

    Raises OSError where that is not told.
    """
    sockets = [one for one in unix_sockets() if one.inode in own]
    listening = {one.name: one.waiting for one in sockets if one.is_listening}
    return any(listening.values()) or any(
        one.name in listening and one.peer and one.peer not in own
        for one in sockets
        if not one.is_listening
    )
