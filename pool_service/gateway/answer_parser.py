"""Parsing of a server's answer, by llhttp, without input and output."""

from typing import Final

import httptools
from multidict import CIMultiDict

MAX_HEAD_BYTES: Final = 64 * 1024
"""Bytes of heads, interim answers and trailers that may come without a piece of a body between
them, and the last read of them more. The head of usual servers is below 1 KiB."""

_FIRST_STATUS: Final = 100
_FIRST_FINAL_STATUS: Final = 200


class AnswerFlaw(ValueError):
    """What a server sent is no HTTP answer, or one that is too long."""


class AnswerParser:
    """Parses the answer to one request.

    Attributes:
        status: the status; 0 until the head is complete.
        headers: the headers.
        pieces: the parts of the body that came since the list was last cleared.
        is_whole: whether the body is complete.
        keeps_connection: whether the connection is ready for another request, once is_whole.
    """

    def __init__(self) -> None:
        self.status = 0
        self.headers: CIMultiDict[str] = CIMultiDict()
        self.pieces: list[bytes] = []
        self.is_whole = False
        self.keeps_connection = False
        self._bytes_without_body = 0
        self._lasts_until_closed = False
        # Called by the parser.
        self.on_body = self.pieces.append
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Parse what a server sent. Raises AnswerFlaw."""
        if self._parser is None:
            # It says more than it was asked for.
            self.keeps_connection = False
            return
        came = len(self.pieces)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.is_whole:
                raise AnswerFlaw(f"the server's answer is not HTTP: {error}") from None
            self.keeps_connection = False
        if self.is_whole:
            # It refers to this object: a cycle, which the garbage collector would have to find.
            self._parser = None
        self._bytes_without_body = (
            0 if len(self.pieces) > came else self._bytes_without_body + len(data)
        )
        if self._bytes_without_body > MAX_HEAD_BYTES:
            raise AnswerFlaw(f"the head of the server's answer is over {MAX_HEAD_BYTES} bytes")

    def end(self) -> None:
        """Note that the server has closed the connection in order."""
        self.is_whole = self.is_whole or self._lasts_until_closed
        self.keeps_connection = False

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        """Refuse a second answer."""
        if self.is_whole:
            raise AnswerFlaw("an answer to nothing")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; not what stands behind a body."""
        if not self.status:
            text = value.rstrip(b" \t").decode("utf-8", "replace")
            self.headers.add(name.decode("ascii", "replace"), text)

    def on_headers_complete(self) -> None:
        """Take the head; not that of an interim answer, such as 100 Continue."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status < _FIRST_STATUS:
            raise AnswerFlaw(f"the status {status}")
        if status < _FIRST_FINAL_STATUS:
            self.headers.clear()
            return
        self.status = status
        self._lasts_until_closed = not (
            "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        )

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        assert self._parser is not None
        if self.status:
            self.is_whole = True
            self.keeps_connection = self._parser.should_keep_alive()
