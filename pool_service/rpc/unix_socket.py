"""A unix socket that is there as long as the service is.

What cleans /tmp, a logout, or a person may remove it, and then nobody new can call though all is
well. gRPC neither notices that nor listens twice, so another server listens at the path anew;
who is connected stays so. A socket is bound beside its path and renamed into its place: so gRPC,
which removes what it has bound when it ends, never removes the socket of another service.
"""

import asyncio
import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import grpc
import structlog

from pool_service.address import LONGEST_SOCKET_PATH, AddressError
from pool_service.rpc.listening import make_way

LOOK_PACE_S = 5.0
"""A look is one call of the system, of two microseconds."""

_FAILING_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})

log = structlog.get_logger("pool_service.rpc")


class UnixSocket:
    """The socket at one path. new_server: makes a server of the same service, not yet started."""

    def __init__(self, path: Path, new_server: Callable[[], grpc.aio.Server]) -> None:
        self._path = path
        self._new_server = new_server
        self._made: os.stat_result | None = None
        self._later: list[grpc.aio.Server] = []
        self._told = ""

    def bind(self, server: grpc.aio.Server) -> None:
        """Let a server that is not started yet listen there.

        Where the disk has no place for a socket, `look` tries again: a service that cannot be
        called keeps its servers all the same. Raises AddressError where it is another's, or there
        can be none.
        """
        try:
            make_way(self._path)
            self._bind(server)
        except AddressError as error:
            cause = error.__cause__
            if not (isinstance(cause, OSError) and cause.errno in _FAILING_DISK):
                raise
            self._tell(str(error))

    async def look(self) -> None:
        """Make it again, if it is not there any more and nobody else has the path."""
        if self._is_there():
            return
        was_made, self._made = self._made is not None, None
        try:
            make_way(self._path)
            server = self._new_server()
            self._bind(server)
        except AddressError as error:
            self._tell(str(error))
            return
        await server.start()
        self._later.append(server)
        self._told = ""
        what = "it was removed" if was_made else "there was no place for it"
        log.warning("the socket is made again", path=str(self._path), why=what)

    async def stop(self, grace: float) -> None:
        """End the servers that came later, all at once, as the first is ended."""
        await asyncio.gather(*(server.stop(grace) for server in self._later))

    def remove(self) -> None:
        """Remove it, unless it is another's by now."""
        if self._is_there():
            self._path.unlink(missing_ok=True)
        self._made = None

    def _is_there(self) -> bool:
        try:
            return self._made is not None and os.path.samestat(self._path.lstat(), self._made)
        except OSError:
            return False

    def _bind(self, server: grpc.aio.Server) -> None:
        beside = self._path.with_name(f".{secrets.token_hex(3)}")
        if len(os.fsencode(beside)) > LONGEST_SOCKET_PATH:
            beside = self._path
        # The directory protects a socket, but the socket itself should be no wider.
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

    def _tell(self, why: str) -> None:
        """Log why there is no socket, once for each reason."""
        if why != self._told:
            log.warning("there is no socket; trying again", why=why)
        self._told = why
