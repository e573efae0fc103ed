"""Open TCP connections of this process, each known by its descriptor and the kernel's cookie.

Linux only. A socket's cookie is never given to another one, and while a connection is open no other
has the same two ends: so whatever was found out about it is still so. To ask that takes a fifth of
a question by netlink.
"""

import os
import socket
from contextlib import suppress

from pool_service.adapters.sockets.sock_diag import ESTABLISHED

_SO_COOKIE = 57
"""From <asm-generic/socket.h>."""

_TCP_INFO = getattr(socket, "TCP_INFO", 11)
"""The option whose first byte is the state of the connection (<linux/tcp.h>)."""

_IS_ESTABLISHED = bytes((ESTABLISHED,))


class OwnConnection:
    """Watches one end of a connection, whose descriptor belongs to another part of this process."""

    __slots__ = ("_cookie", "_option")

    def __init__(self, descriptor: int, cookie: bytes) -> None:
        """Raises OSError if the descriptor leads to no TCP socket."""
        # Methods of `socket` that read options keep the interpreter's lock, so that they do not
        # wait for other threads of Python.
        borrowed = _Borrowed(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
        self._option = borrowed.getsockopt
        self._cookie = cookie

    def is_open(self) -> bool:
        """Return whether the descriptor still leads to this connection, which nobody has closed."""
        try:
            # The state first: threads of gRPC may close the descriptor and get it for another
            # connection at any time. What is this connection after the question was it before.
            return (
                self._option(socket.IPPROTO_TCP, _TCP_INFO, 1) == _IS_ESTABLISHED
                and self._option(socket.SOL_SOCKET, _SO_COOKIE, len(self._cookie)) == self._cookie
            )
        except OSError:
            return False


class _Borrowed(socket.socket):
    """A socket whose descriptor is not closed with it."""

    def __del__(self) -> None:
        self.detach()


def own_connection(cookie: bytes) -> OwnConnection | None:
    """Return the open connection with a cookie; None if this process has none.

    Asks about each descriptor, which takes milliseconds if there are thousands.
    """
    for descriptor in _descriptors():
        with suppress(OSError):
            found = OwnConnection(descriptor, cookie)
            if found.is_open():
                return found
    return None


def _descriptors() -> list[int]:
    with suppress(OSError):
        return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - numbers
    return []
