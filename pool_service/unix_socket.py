"""A unix socket that is made again if it is removed while the service runs.

A cleaner of /tmp, a logout or a person may remove it, and then no client can connect. gRPC does not
notice that and cannot listen again, so a second server listens at the path; existing connections
stay. When gRPC ends, it removes the path that it has bound, where another service's socket may be
by then. Therefore a socket is bound beside its path and then renamed.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from pool_service.address import LONGEST_SOCKET_PATH, AddressError
from pool_service.listening import make_way

CHECK_INTERVAL_S = 5.0
"""Time between two checks that the socket exists, each a system call of two microseconds."""

_FAILING_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

log = structlog.get_logger("pool_service.listening")


class SocketServer(Protocol):
    """A server that can listen on a unix socket; grpc.aio.Server is one."""

    def add_insecure_port(self, address: str, /) -> int:
        """Listen on `unix:PATH` once it is started. Raises RuntimeError or OSError."""

    async def start(self) -> None:
        """Begin to serve."""

    async def stop(self, grace: float | None, /) -> None:
        """Stop, and let calls finish for `grace` seconds."""


class UnixSocket:
    """The socket at one path.

    new_server: makes another server of the same service, which is not started yet.
    prepare: called with the socket's directory before each bind; raises AddressError.
    """

    def __init__(
        self,
        path: Path,
        new_server: Callable[[], SocketServer],
        prepare: Callable[[Path], None] | None = None,
    ) -> None:
        self._path = path
        self._new_server = new_server
        self._prepare = prepare
        self._made: os.stat_result | None = None
        self._added: list[SocketServer] = []
        self._logged = ""
        self._is_over = False

    def bind(self, server: SocketServer) -> None:
        """Bind a server that is not started yet to the path.

        On a full or failing disk `restore` tries again later: the service runs without a socket
        and keeps its servers. Raises AddressError if the path is another program's or unusable.
        """
        try:
            self._make_way()
            self._bind(server)
        except AddressError as error:
            cause = error.__cause__
            if not (isinstance(cause, OSError) and cause.errno in _FAILING_DISK):
                raise
            self._log_once(str(error))

    def bind_if_possible(self, server: SocketServer) -> bool:
        """Bind a server as `bind` does; return False if it is not bound, whatever the reason.

        `restore` then tries again.
        """
        try:
            self.bind(server)
        except AddressError as error:
            self._log_once(str(error))
        return self._made is not None

    async def restore(self) -> None:
        """Make the socket again if it was removed and no other program has taken the path.

        Not after `remove`: a check of the socket may be under way while its service stops.
        """
        if self._is_over or self._is_there():
            return
        was_made, self._made = self._made is not None, None
        try:
            self._make_way()
            server = self._new_server()
            self._bind(server)
        except AddressError as error:
            self._log_once(str(error))
            return
        self._added.append(server)
        await server.start()
        self._logged = ""
        what = "it was removed" if was_made else "there was no place for it"
        log.warning("the socket is made again", path=str(self._path), why=what)

    async def stop(self, grace: float) -> None:
        """Stop the servers that `restore` has added, all at once; `grace` in seconds."""
        await asyncio.gather(*(server.stop(grace) for server in self._added))

    def remove(self) -> None:
        """Remove the socket for good, unless the path is another program's by now."""
        self._is_over = True
        if self._is_there():
            self._path.unlink(missing_ok=True)
        self._made = None

    def _is_there(self) -> bool:
        try:
            return self._made is not None and os.path.samestat(self._path.lstat(), self._made)
        except OSError:
            return False

    def _make_way(self) -> None:
        if self._prepare is not None:
            self._prepare(self._path.parent)
        make_way(self._path)

    def _bind(self, server: SocketServer) -> None:
        beside = self._path.with_name(f".{secrets.token_hex(3)}")
        if len(os.fsencode(beside)) > LONGEST_SOCKET_PATH:
            beside = self._path
        # The directory protects the socket; its own mode should not be wider.
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{beside}")
            os.rename(beside, self._path)  # noqa: PTH104 - says what it does
            self._made = self._path.lstat()
        except (RuntimeError, OSError) as error:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise AddressError(
                f"cannot listen on unix:{self._path}: another program has just taken it. Stop that "
                "one, or choose another address."
            ) from error
        finally:
            os.umask(mask)

    def _log_once(self, why: str) -> None:
        """Log why there is no socket, once for each reason."""
        if why != self._logged:
            log.warning("there is no socket; trying again", why=why)
        self._logged = why
