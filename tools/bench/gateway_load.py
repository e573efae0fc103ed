"""Asks for many streams at once, and notes when their chunks come.

It is not asyncio, so that the load takes less of the machine than what it measures.
"""

import json
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

TIMEOUT_S = 60.0
READ_BYTES = 1 << 18
_SENT = b'"sent":'
_DIGITS = 19
_LINE_END = b"\r\n"

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for at once. pace_s: between two chunks of a stream; 0: none."""

    model: str
    streams: int
    chunks: int
    pace_s: float

    def request(self, host: str, path: str) -> bytes:
        """Return a request for one of its streams."""
        asked = {"model": self.model, "stream": True, "messages": []}
        body = json.dumps(asked | {"chunks": self.chunks, "pace_s": self.pace_s}).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer none\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(slots=True)
class Taken:
    """What came of a load; all times in seconds.

    Attributes:
        took: from the first request to the end of the last stream.
        firsts: of each stream, from the first request to its first chunk.
        delays: of chunks, from when they were sent until they came, while all streams ran.
        cpu: what the processes in question computed while all streams ran; of_all: in all.
    """

    took: float = 0.0
    firsts: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    cpu: float = 0.0
    of_all: float = 0.0


class BrokenAnswerError(Exception):
    """A stream was refused, or ended early."""


class _Body:
    """Takes the frames off a body with `transfer-encoding: chunked`; a proxy makes its own."""

    def __init__(self) -> None:
        self.is_over = False
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """Return what the data has of the content; a frame counts once it is there as a whole."""
        data, place, found = self._rest + data, 0, []
        while (line_end := data.find(_LINE_END, place)) >= 0:
            begin = line_end + len(_LINE_END)
            end = begin + int(data[place:line_end], 16)
            if end + len(_LINE_END) > len(data):
                break
            self.is_over = self.is_over or begin == end
            found.append(data[begin:end])
            place = end + len(_LINE_END)
        self._rest = data[place:]
        return b"".join(found)


class _Stream:
    """One request, and what has come of its answer."""

    def __init__(self, load: Load, url: str) -> None:
        self._load = load
        self.chunks = 0
        self._head = b""
        self._rest = b""
        self._body = _Body()
        self._ask(url)

    def _ask(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(self._load.request(parts.netloc, parts.path))
        self.socket.settimeout(0.0)

    def take(self, now_ns: int, delays: list[float]) -> bool:
        """Take what has come; return whether it was the end. Raises BrokenAnswerError."""
        data = self.socket.recv(READ_BYTES)
        if not data:
            raise BrokenAnswerError(f"broken off after {self.chunks} chunks")
        if not self._head:
            self._head, separator, data = (self._rest + data).partition(b"\r\n\r\n")
            if not separator:
                self._head, self._rest = b"", self._head
                return False
            self._rest = b""
            if b" 200 " not in self._head[:16]:
                raise BrokenAnswerError((self._head + data)[:400].decode(errors="replace"))
        *events, self._rest = (self._rest + self._body.take(data)).split(b"\n\n")
        for event in events:
            begin = event.index(_SENT) + len(_SENT)
            delays.append((now_ns - int(event[begin : begin + _DIGITS])) / 1e9)
        self.chunks += len(events)
        if self._body.is_over and self.chunks != self._load.chunks:
            raise BrokenAnswerError(f"ended after {self.chunks} chunks")
        return self._body.is_over

    def follow(self) -> bool:
        """Go where a redirect leads; return whether the answer is one."""
        head = self.socket.recv(READ_BYTES, socket.MSG_PEEK)
        if b" 307 " not in head[:16]:
            return False
        lines = head.partition(b"\r\n\r\n")[0].decode().split("\r\n")
        (url,) = (line[10:] for line in lines if line.lower().startswith("location: "))
        self.socket.close()
        self._ask(url)
        return True


def take(load: Load, url: str, cpu: Clock) -> Taken:
    """Ask for all streams at once; return what came. cpu: the seconds that were computed so far.

    Raises BrokenAnswerError or TimeoutError.
    """
    taken, selector, beginning = Taken(), selectors.DefaultSelector(), cpu()
    began = time.monotonic()
    try:
        for _ in range(load.streams):
            _register(selector, _Stream(load, url))
        _take_all(load, selector, taken, began, cpu)
    finally:
        for key in [*selector.get_map().values()]:
            key.data.socket.close()
        selector.close()
    taken.took = time.monotonic() - began
    taken.of_all = cpu() - beginning
    return taken


def _register(selector: selectors.BaseSelector, stream: _Stream) -> None:
    selector.register(stream.socket, selectors.EVENT_READ, stream)


def _take_all(
    load: Load, selector: selectors.BaseSelector, taken: Taken, began: float, cpu: Clock
) -> None:
    progress = _Progress(load, taken, began, cpu)
    while selector.get_map():
        ready = selector.select(TIMEOUT_S)
        if not ready:
            raise TimeoutError(f"no chunk for {TIMEOUT_S:g} s")
        for key, _ in ready:
            stream = key.data
            is_new = not stream.chunks
            if is_new and _moved(selector, stream, stream.socket):
                continue
            is_over = stream.take(time.monotonic_ns(), progress.delays)
            if is_new and stream.chunks:
                progress.begin()
            if is_over:
                progress.end()
                selector.unregister(stream.socket)
                stream.socket.close()


class _Progress:
    """Notes when all streams have begun, and when the first one ends."""

    def __init__(self, load: Load, taken: Taken, began: float, cpu: Clock) -> None:
        self.delays: list[float] = []
        self._load, self._taken, self._began, self._cpu = load, taken, began, cpu
        self._has_ended = False

    def begin(self) -> None:
        """Note that a stream has begun."""
        self._taken.firsts.append(time.monotonic() - self._began)
        if len(self._taken.firsts) == self._load.streams:
            self._taken.cpu = -self._cpu()
            self.delays.clear()

    def end(self) -> None:
        """Note that a stream has ended."""
        if self._has_ended or len(self._taken.firsts) < self._load.streams:
            return
        self._has_ended = True
        self._taken.cpu += self._cpu()
        self._taken.delays = [*self.delays]


def _moved(selector: selectors.BaseSelector, stream: _Stream, before: socket.socket) -> bool:
    """Follow a redirect; return whether there was one."""
    selector.unregister(before)
    try:
        return stream.follow()
    finally:
        _register(selector, stream)
