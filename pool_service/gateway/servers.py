"""Connections to the models' servers, each kept for a moment after its last request."""

import asyncio
import errno
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, Self
from urllib.parse import urlsplit

from pool_service.gateway.answer_parser import AnswerParser
from pool_service.gateway.server_connection import ServerConnection, ServerGone

CONNECT_TIMEOUT_S: Final = 5.0

KEPT_S: Final = 3.0
"""Time for which an unused connection is kept: uvicorn closes it after five seconds, and a request
that meets that would be lost."""

Address = tuple[str, int]


class ServerUnreachable(ServerGone):
    """A server accepts no connection. has_ended: because nobody listens there any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"the model's server accepts no connection: {error}")
        self.has_ended = error.errno in {errno.ECONNREFUSED, errno.ECONNRESET}


class ServerAnswer:
    """The answer of a server, from its head on; a context manager that ends the request."""

    def __init__(
        self, answer: AnswerParser, connection: ServerConnection, end: Callable[[], None]
    ) -> None:
        """Wrap an answer whose head has come; only `Servers.send` does."""
        self.status = answer.status
        self.headers = answer.headers
        self.pass_on = connection.pass_on
        self.pause = connection.pause
        self.resume = connection.resume
        self._end: Callable[[], None] | None = end

    async def read(self, max_bytes: int) -> bytes:
        """Return the first `max_bytes` of the body. Raises ServerGone."""
        body = bytearray()

        def take(piece: bytes) -> None:
            body.extend(piece)
            if len(body) >= max_bytes:
                raise _EnoughError

        with suppress(_EnoughError):
            await self.pass_on(take)
        return bytes(body[:max_bytes])

    def close(self) -> None:
        """End the request; its connection is kept for another one if the answer is whole."""
        if self._end is not None:
            self._end()
            self._end = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _EnoughError(Exception):
    """Ends the reading of a body."""


class Servers:
    """Sends requests to servers."""

    def __init__(self) -> None:
        self._unused: dict[Address, dict[ServerConnection, asyncio.TimerHandle]] = {}

    def close(self) -> None:
        """Close the connections that are not in use."""
        for connections in tuple(self._unused.values()):
            for connection in tuple(connections):
                connection.close()

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes
    ) -> ServerAnswer:
        """Send a request to a server; return its answer as soon as the head of that has come.

        headers: without Host and those that tell how the body is framed.

        Raises ServerGone, and ServerUnreachable before anything was sent.
        """
        target = urlsplit(url)
        address = target.hostname or "", target.port or 80
        head = _head(method, url.partition(target.netloc)[2], target.netloc, headers, len(body))
        connection = self._take(address) or await self._connect(address)
        try:
            answer = await connection.send(head, body)
        except BaseException:
            connection.close()
            raise
        return ServerAnswer(answer, connection, lambda: self._end(address, connection))

    async def _connect(self, address: Address) -> ServerConnection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, connection = await loop.create_connection(
                    lambda: ServerConnection(lambda lost: self._forget(address, lost)), *address
                )
        except OSError as error:
            raise ServerUnreachable(error) from error
        return connection

    def _take(self, address: Address) -> ServerConnection | None:
        """Return an unused connection to an address, if there is one."""
        unused = self._unused.get(address)
        while unused:
            # The newest one, so that the others become old.
            connection, timer = unused.popitem()
            timer.cancel()
            if not connection.is_closing:
                return connection
        return None

    def _end(self, address: Address, connection: ServerConnection) -> None:
        """End a request, and keep its connection if it can be used again."""
        if connection.finish():
            timer = asyncio.get_running_loop().call_later(KEPT_S, connection.close)
            self._unused.setdefault(address, {})[connection] = timer

    def _forget(self, address: Address, connection: ServerConnection) -> None:
        unused = self._unused.get(address, {})
        with suppress(KeyError):
            unused.pop(connection).cancel()
        if not unused:
            self._unused.pop(address, None)


def _head(method: str, path: str, host: str, headers: Mapping[str, str], length: int) -> bytes:
    """Return the head of a request. Raises ValueError for a header with a line break."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {host}",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    text = "\r\n".join((*lines, "", ""))
    if text.count("\n") != len(lines) + 1 or text.count("\r") != len(lines) + 1:
        raise ValueError("a line break in the head of a request")
    return text.encode("utf-8", "surrogateescape")
