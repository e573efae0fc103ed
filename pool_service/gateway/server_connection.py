"""A connection to a model's server, by HTTP/1.1."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from pool_service.gateway.answer_parser import AnswerFlaw, AnswerParser

MAX_WAITING_BYTES: Final = 64 * 1024
"""Bytes of an answer that may wait for their reader before the server is slowed down."""

_WRITE_BYTES: Final = 256 * 1024
"""Bytes of a request that are given to the connection at once."""

REFUSAL_S: Final = 1.0
"""Time for a refusal to end before its server gets the rest of the request."""

_FIRST_ERROR_STATUS: Final = 400


class ServerGone(ConnectionError):
    """The connection to a server ended before its answer, or what came is no answer."""


class ServerConnection(asyncio.Protocol):
    """A connection that takes one request after another, each by one task.

    The pieces of an answer are handed on as they come, without waking a task for each: at 128
    streams, that task was half of what a chunk costs.
    """

    def __init__(self, on_lost: Callable[["ServerConnection"], None]) -> None:
        """Create the connection on the running event loop. on_lost: called when it is closed."""
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", None)
        self._answer: AnswerParser | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_writing_paused = False
        self._is_sent = False
        self._rest: asyncio.TimerHandle | None = None

    # --- for the task of a request ---

    @property
    def is_closing(self) -> bool:
        """Return whether the connection can take no request any more."""
        return self._transport.is_closing()

    async def send(self, head: bytes, body: bytes) -> AnswerParser:
        """Send a request, and return its answer once the head of that has come.

        Raises ServerGone.
        """
        if self.is_closing:
            raise ServerGone("the server has closed the connection")
        self._answer = answer = AnswerParser()
        self._failure = self._sink = None
        await self._write(head, body, answer)
        while not answer.status:
            await self._news()
        return answer

    async def pass_on(self, sink: Callable[[bytes], None]) -> None:
        """Call `sink` with each piece of the answer's body, until its end.

        Raises ServerGone if the answer breaks off, and what `sink` raises.
        """
        answer = self._answer
        assert answer is not None
        self._sink = sink
        self.resume()
        self._hand_on(answer)
        while not answer.is_whole:
            await self._news()

    def pause(self) -> None:
        """Read no more of the answer, until `resume`, so that its server is slowed down."""
        self._transport.pause_reading()

    def resume(self) -> None:
        """Read the answer again."""
        self._transport.resume_reading()

    def finish(self) -> bool:
        """End a request; return whether the connection is ready for another, else close it."""
        answer, self._answer, self._sink = self._answer, None, None
        is_ready = (
            answer is not None
            and answer.is_whole
            and answer.keeps_connection
            and self._is_sent
            and not self._transport.get_write_buffer_size()
            and not self.is_closing
            # While reading is paused, nobody knows what else has come.
            and self._transport.is_reading()
        )
        if not is_ready:
            self.close()
        if self._rest is not None:
            self._rest.cancel()
        return is_ready

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    async def _write(self, head: bytes, body: bytes, answer: AnswerParser) -> None:
        """Write a request as fast as the server reads it.

        If the server refuses it (status 400 or more) before it has read all, the rest is written
        only after REFUSAL_S: a write to a connection that the server has closed loses its answer.
        """
        self._is_sent = False
        first, rest = body[:_WRITE_BYTES], memoryview(body)[_WRITE_BYTES:]
        self._transport.write(head + first)
        while rest and not answer.status and self._failure is None:
            if self._is_writing_paused:
                await self._news()
            else:
                self._transport.write(rest[:_WRITE_BYTES])
                rest = rest[_WRITE_BYTES:]
        if answer.status < _FIRST_ERROR_STATUS:
            self._transport.write(rest)
            self._is_sent = True
        else:
            self._rest = self._loop.call_later(REFUSAL_S, self._transport.write, rest)

    async def _news(self) -> None:
        """Wait until something has happened to the connection. Raises its failure."""
        if self._failure is None:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._failure is not None:
            raise self._failure

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- for the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse what came, and hand it on."""
        answer = self._answer
        if answer is None:
            # Nothing was asked, or nobody waits for the answer any more.
            self._transport.abort()
            return
        try:
            answer.feed(data)
            if answer.pieces:
                self._hand_on(answer)
        except AnswerFlaw as flaw:
            self._fail(ServerGone(str(flaw)))
        except Exception as error:  # noqa: BLE001 - raised in the task of the request
            self._fail(error)
        if self._sink is None or answer.is_whole:
            self._wake()

    def pause_writing(self) -> None:
        """Wait with the rest of a request."""
        self._is_writing_paused = True

    def resume_writing(self) -> None:
        """Go on with a request."""
        self._is_writing_paused = False
        self._wake()

    def eof_received(self) -> None:
        """End the answer, or let it fail: the server says no more."""
        if self._answer is not None:
            self._answer.end()
            self._note_end(self._answer)
        # Now, and not once a server that reads no more has read the request.
        self._transport.abort()
        self._wake()

    def connection_lost(self, _error: Exception | None) -> None:
        """Let an answer that is not whole fail."""
        if self._answer is not None:
            self._note_end(self._answer)
        self._wake()
        self._on_lost(self)

    def _note_end(self, answer: AnswerParser) -> None:
        if not answer.is_whole and self._failure is None:
            self._failure = ServerGone("the server closed the connection")

    def _hand_on(self, answer: AnswerParser) -> None:
        """Give the sink what came; without a sink, let no more come than MAX_WAITING_BYTES."""
        pieces = answer.pieces
        if self._sink is None:
            if sum(map(len, pieces)) > MAX_WAITING_BYTES:
                self.pause()
        elif pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            self._sink(piece)

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._transport.abort()
        self._wake()
