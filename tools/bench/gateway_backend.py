"""Serves streams of chunks at a given pace: what the ways to a server are compared on.

    python -S -E tools/bench/gateway_backend.py PORT

GET gets 200 and `ok`. The body of a POST is JSON: `chunks` says how many events the answer has,
`pace_s` the seconds between two of them; 0: as fast as they are taken. Each event has CHUNK_BYTES,
goes out by itself, and says by CLOCK when. The first one goes out at once. The others of paced
streams are spread over the pace, as those of callers who came at different times are.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator

CHUNK_BYTES = 200
BACKLOG = 1024
GOLDEN = 0.6180339887
"""Multiples of it, without their whole part, are spread evenly, however many there are."""

HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok"

_BEGINS, _ENDS = b'data: {"sent":%019d,"content":"', b'"}\n\n'
_FILL = b"x" * (CHUNK_BYTES - len(_BEGINS % 0) - len(_ENDS)) + _ENDS
_FRAME = b"%x\r\n" % CHUNK_BYTES + _BEGINS + _FILL + b"\r\n"


class Backend(asyncio.Protocol):
    """Answers the requests of one connection, one after the other."""

    _places: Iterator[int] = iter(range(sys.maxsize))

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._left = 0
        self._pace_s = 0.0
        self._due = 0.0
        self._timer: asyncio.Handle | None = None
        self._is_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Send no more."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer a request once it is there as a whole."""
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._data = b""
        assert self._transport is not None
        if head.startswith(b"GET"):
            self._transport.write(OK)
            return
        asked = json.loads(body)
        self._left, self._pace_s = int(asked["chunks"]), float(asked["pace_s"])
        self._transport.write(HEAD)
        self._send()
        place = next(self._places) * GOLDEN % 1
        self._due = self._loop.time() + self._pace_s * place
        self._plan()

    def pause_writing(self) -> None:
        """Wait until the reader has taken what there is."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_paused = False
        self._plan()

    def _plan(self) -> None:
        if self._is_paused or self._transport is None or not self._left:
            return
        if not self._pace_s:
            self._timer = self._loop.call_soon(self._next)
            return
        self._due += self._pace_s
        self._timer = self._loop.call_at(self._due, self._next)

    def _next(self) -> None:
        self._send()
        self._plan()

    def _send(self) -> None:
        if self._transport is None:
            return
        self._transport.write(_FRAME % time.monotonic_ns())
        self._left -= 1
        if not self._left:
            self._transport.write(END)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(port: int) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
