"""Fixes the one address on which a server listens, taken before its model is loaded.

Landlock knows ports and no addresses, so what a model brings could let its server listen for other
machines. So the launcher binds the server's socket, then no thread can make or bind another one
(all threads: a filter of system calls, unlike Landlock, binds those that there are), and uvicorn
gets the socket when it starts to listen.
"""

import errno
import ipaddress
import platform
import socket
from typing import Any

from . import call_filter

NO_MORE_SOCKETS = ("socket", "bind")


def fix_address(host: str, port: str) -> "socket.socket | None":
    """Bind a socket, let this process make no other one, and return it.

    None, with nothing done, if the host is a name, which can have several addresses, or if the port
    is no number. Raises OSError.
    """
    try:
        is_v6 = isinstance(ipaddress.ip_address(host), ipaddress.IPv6Address)
        number = int(port)
    except ValueError:
        return None
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    # As asyncio does.
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_v6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    bound.bind((host, number))
    rules = [call_filter.Rule(name, errno.EACCES) for name in NO_MORE_SOCKETS]
    call_filter.install(call_filter.assemble(rules, platform.machine()))
    return bound


def listen_by(bound: socket.socket) -> None:
    """Patch uvicorn to listen by a socket that is bound."""
    try:
        from uvicorn import Server  # noqa: PLC0415  # only if there is one
    except ImportError:
        # The program itself reports that its installation is incomplete.
        return
    startup = Server.startup

    async def patched(self: Any, sockets: Any = None) -> None:  # noqa: ANN401
        if sockets is not None:
            await startup(self, sockets)
            return
        await startup(self, [bound])
        # With sockets of others it does not say so.
        if self.started:
            self._log_started_message([bound])

    Server.startup = patched  # type: ignore[method-assign]
