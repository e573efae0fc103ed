"""The HTTP listener: accepts connections at one address, at most so many at a time."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog

from pool_service.address import Address, AddressError
from pool_service.admission import Admission, kind_of
from pool_service.http import limits
from pool_service.http.connection import Connection
from pool_service.http.exchange import Response, Routes, refusal
from pool_service.http.visitor import visitor_of
from pool_service.listening import resolve
from pool_service.unix_socket import CHECK_INTERVAL_S, UnixSocket

BACKLOG = 128

Accept = Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]

log = structlog.get_logger("pool_service.http")


class HttpListener:
    """Serves routes at one address, from `start` until `stop`."""

    def __init__(self, address: Address, routes: Routes, admission: Admission) -> None:
        self._address = address
        self._routes = routes
        self._admission = admission
        self._servers: list[asyncio.Server] = []
        self._unix_socket: UnixSocket | None = None
        self._first: _UnixServer | None = None
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._refused: set[asyncio.Task[None]] = set()

    async def start(self) -> str:
        """Listen, and return the address with its actual port.

        Raises AddressError if it is taken or unusable; then nothing is served.
        """
        try:
            return await self._bind()
        except AddressError:
            await self.stop()
            raise

    async def _bind(self) -> str:
        if self._address.path is not None:
            self._unix_socket = UnixSocket(self._address.path, self._unix_server)
            self._first = self._unix_server()
            self._unix_socket.bind(self._first)
            await self._first.start()
            return self._address.text
        host, _, asked = self._address.text.rpartition(":")
        port = int(asked)
        for one in await resolve(self._address.text):
            port = await self._listen(one.family, one.host, port)
        return f"{host}:{port}"

    async def keep_socket(self) -> None:
        """Make the unix socket again if it is removed, until the listener stops."""
        while (unix_socket := self._unix_socket) is not None:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await unix_socket.restore()

    async def stop(self) -> None:
        """Close the address and all connections; responses that end have a moment for that."""
        for server in self._servers:
            server.close()
        unix_socket, self._unix_socket = self._unix_socket, None
        if unix_socket is not None and self._first is not None:
            unix_socket.remove()
            await self._first.stop(0)
            await unix_socket.stop(0)
        for task in self._refused:
            task.cancel()
        for task, connection in self._connections.items():
            connection.is_ending = True
            if connection.is_idle or connection.is_streaming:
                task.cancel()
        tasks = {*self._connections, *self._refused}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=limits.STOP_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _listen(self, family: int, host: str, port: int) -> int:
        """Listen on one address of this machine; return its port."""
        try:
            server = await asyncio.start_server(
                self._accept, host, port, family=family, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            raise AddressError(
                f"cannot listen on {self._address.text}: another program has just taken it. Stop "
                "that one, or choose another port."
            ) from error
        self._servers.append(server)
        bound: int = server.sockets[0].getsockname()[1]
        return bound

    def _unix_server(self) -> "_UnixServer":
        return _UnixServer(self._accept)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A browser reaches no unix socket, and a proxy in front of one has names of its own.
        checks_host = self._address.path is None
        visitor = visitor_of(writer, kind_of(self._address), self._address.text, self._admission)
        connection = Connection(reader, writer, self._routes, visitor, checks_host=checks_host)
        if len(self._connections) < limits.MAX_CONNECTIONS or self._end_idle_one():
            self._connections[self._begin(connection, connection.serve())] = connection
        elif len(self._refused) < limits.MAX_REFUSED:
            self._refused.add(self._begin(connection, connection.refuse(_busy())))
        else:
            connection.close()

    def _begin(
        self, connection: Connection, work: Coroutine[Any, Any, None]
    ) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work, name="http connection")
        task.add_done_callback(partial(self._forget, connection))
        return task

    def _end_idle_one(self) -> bool:
        """End the oldest connection that has no request; return False if none can be ended.

        One that has served none yet may just be about to send the first.
        """
        silent_since = asyncio.get_running_loop().time() - limits.MAX_SILENT_S
        for task, one in self._connections.items():
            if one.is_idle and (one.has_served or one.idle_since <= silent_since):
                task.cancel()
                del self._connections[task]
                return True
        return False

    def _forget(self, connection: Connection, task: "asyncio.Task[None]") -> None:
        # Here, since a task that is cancelled before its first step can close nothing.
        connection.close()
        self._connections.pop(task, None)
        self._refused.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("internal error in a connection", exc_info=error)


class _UnixServer:
    """A server of the listener's routes on a unix socket, as `UnixSocket` needs it."""

    def __init__(self, accept: Accept) -> None:
        self._accept = accept
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._is_over = False

    def add_insecure_port(self, address: str, /) -> int:
        """Bind a socket to `unix:PATH`. Raises OSError."""
        path = Path(address.removeprefix("unix:"))
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.bind(str(path))
            self._socket.listen(BACKLOG)
        except OSError:
            self._socket.close()
            raise
        return 1

    async def start(self) -> None:
        """Begin to accept connections, if there was a place for the socket."""
        if self._socket is not None:
            self._server = await asyncio.start_unix_server(self._accept, sock=self._socket)
        if self._is_over:
            await self.stop(0)

    async def stop(self, _grace: float | None, /) -> None:
        """Stop accepting connections, even if `start` is still under way.

        The listener ends the connections that there are.
        """
        self._is_over = True
        if self._server is not None:
            self._server.close()


def _busy() -> Response:
    return refusal(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{limits.MAX_CONNECTIONS} connections are in use; try again later",
        ("Retry-After", "1"),
    )
