"""Forwarding of a server's answer to its caller."""

import asyncio
import time

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from pool_service.gateway.servers import ServerAnswer
from pool_service.gateway.tokens import events_of, tokens_of


class CallerGone(Exception):
    """The caller has closed its connection."""


class Forwarder:
    """Writes a server's answer to its caller, piece by piece; a slow caller slows the server down.

    The pieces are written to the connection itself, since StreamResponse.write is for tasks.

    Attributes:
        first_byte_at: when the first piece came, by time.monotonic; None: none has come.
        sent_bytes: the bytes of the pieces.
    """

    def __init__(
        self,
        answer: ServerAnswer,
        request: web.Request,
        response: web.StreamResponse,
        writer: AbstractStreamWriter,
    ) -> None:
        """response: the caller's, which has begun. writer: the one that writes it.

        Raises CallerGone.
        """
        if request.transport is None:
            raise CallerGone
        self.first_byte_at: float | None = None
        self.sent_bytes = 0
        self._last, self._before_last, self._events = b"", b"", 0
        self._answer = answer
        self._response = response
        self._writer = writer
        self._transport = request.transport
        self._protocol = request.protocol
        self._is_chunked = response.headers.get(hdrs.TRANSFER_ENCODING) == "chunked"
        self._is_over = False
        self._drained: asyncio.Task[None] | None = None

    @property
    def end(self) -> bytes:
        """Return the newest two pieces: the last event may come after the one with the counts."""
        return self._before_last + self._last

    @property
    def tokens(self) -> int:
        """Return how many tokens have come."""
        return tokens_of(self.end, self._events)

    async def forward(self) -> None:
        """Write the answer's body, up to its end. Raises ServerGone, and CallerGone."""
        try:
            await self._answer.pass_on(self._write)
        finally:
            self._is_over = True
        # Before the wait for a slow caller, in which the server would close the connection.
        self._answer.close()
        try:
            await self._response.write_eof()
        except ConnectionError:
            raise CallerGone from None

    def _write(self, piece: bytes) -> None:
        """Write a piece. Raises CallerGone."""
        if self.first_byte_at is None:
            self.first_byte_at = time.monotonic()
        self.sent_bytes += len(piece)
        self._last, self._before_last = piece, self._last
        self._events += events_of(piece)
        if self._transport.is_closing():
            raise CallerGone
        self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._is_chunked else piece)
        if self._protocol.writing_paused and self._drained is None:
            self._answer.pause()
            self._drained = asyncio.ensure_future(self._writer.drain())
            self._drained.add_done_callback(self._go_on)

    def _go_on(self, drained: "asyncio.Task[None]") -> None:
        """Read the answer again, unless that is over."""
        self._drained = None
        has_drained = not drained.cancelled() and drained.exception() is None
        if has_drained and not self._is_over:
            self._answer.resume()
