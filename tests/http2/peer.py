"""A peer that speaks HTTP/2 frame by frame, also frames that no library would send."""

import selectors
import socket
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import unquote

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
)

from pool_service.v1 import pool_service_pb2 as pb

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PATIENCE_S = 60.0
EMPTY_MESSAGE = b"\0\0\0\0\0"
LARGEST_FRAME = 16_384
METHODS = "/pool_service.v1.PoolService/"

Headers = Sequence[tuple[str, str]]


class PeerError(Exception):
    """The server took nothing for as long as the peer waits."""


def request_headers(method: str = "Watch", more: Headers = ()) -> list[tuple[str, str]]:
    """The headers with which a gRPC client begins a call."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", METHODS + method),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *more,
    ]


def encoded(headers: Headers) -> bytes:
    """Encode headers without reference to others, so that they suit any stream."""
    return bytes(hpack.Encoder().encode(list(headers), huffman=False))


def headers_frames(stream: int, block: bytes, *, end_stream: bool = False) -> bytes:
    """Return one HEADERS frame and as many CONTINUATION frames as the block takes."""
    first = HeadersFrame(stream, block[:LARGEST_FRAME])
    if end_stream:
        first.flags.add("END_STREAM")
    frames: list[HeadersFrame | ContinuationFrame] = [first]
    frames.extend(
        ContinuationFrame(stream, block[start : start + LARGEST_FRAME])
        for start in range(LARGEST_FRAME, len(block), LARGEST_FRAME)
    )
    frames[-1].flags.add("END_HEADERS")
    return serialized(frames)


def message_frame(stream: int, message: bytes = EMPTY_MESSAGE, *, end: bool = True) -> bytes:
    """Return one DATA frame."""
    frame = DataFrame(stream, message)
    if end:
        frame.flags.add("END_STREAM")
    return bytes(frame.serialize())


def ensure_frames(stream: int, model: str) -> bytes:
    """Return a whole call of Ensure."""
    message = pb.EnsureRequest(model=model).SerializeToString()
    framed = b"\0" + len(message).to_bytes(4, "big") + message
    return headers_frames(stream, encoded(request_headers("Ensure"))) + message_frame(
        stream, framed
    )


def serialized(frames: Iterable[Frame]) -> bytes:
    return b"".join(frame.serialize() for frame in frames)


class Peer:
    """One connection. It reads what comes and throws it away, unless it is `deaf`."""

    def __init__(
        self, address: str, settings: dict[int, int] | None = None, *, deaf: bool = False
    ) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
        self._socket.setblocking(False)  # its name in the standard library
        self._deaf = deaf
        self._received = self._socket.makefile("rb")
        self._decoder = hpack.Decoder()
        self.closed = False
        self.patience_s = PATIENCE_S
        hello = SettingsFrame(0, settings or {})
        acknowledged = SettingsFrame(0, flags=["ACK"])
        self.send(PREFACE + hello.serialize())
        # Until then the server takes fewer streams.
        self.send(acknowledged.serialize())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._received.close()
        self._socket.close()

    def send(self, data: bytes) -> bool:
        """Send all of it; False if the server has closed the connection.

        Raises PeerError if the server neither takes anything nor closes.
        """
        left = memoryview(data)
        until = time.monotonic() + self.patience_s
        with selectors.DefaultSelector() as selector:
            selector.register(
                self._socket, selectors.EVENT_WRITE | (0 if self._deaf else selectors.EVENT_READ)
            )
            while left and not self.closed:
                ready = selector.select(until - time.monotonic())
                if not ready:
                    raise PeerError(f"{len(left)} bytes are not taken")
                left = self._progress(ready[0][1], left)
        return not self.closed

    def statuses(self, streams: Iterable[int]) -> dict[int, tuple[str, str]]:
        """Return the gRPC status and message of each of these streams when all have ended.

        A stream that was reset without one has an empty status. Only for a peer that is deaf.
        """
        self._socket.settimeout(self.patience_s)
        found = dict.fromkeys(streams, ("", ""))
        opened = set(found)
        while opened:
            frame, length = Frame.parse_frame_header(memoryview(self._received.read(9)))
            frame.parse_body(memoryview(self._received.read(length)))
            if isinstance(frame, HeadersFrame):
                headers = {
                    str(name): str(value) for name, value in self._decoder.decode(frame.data)
                }
                message = unquote(headers.get("grpc-message", ""))
                found[frame.stream_id] = (headers.get("grpc-status", ""), message)
            if "END_STREAM" in frame.flags or isinstance(frame, RstStreamFrame):
                opened.discard(frame.stream_id)
        return found

    def _progress(self, events: int, left: memoryview) -> memoryview:
        try:
            if events & selectors.EVENT_READ and not self._socket.recv(1 << 20):
                self.closed = True
            if events & selectors.EVENT_WRITE:
                left = left[self._socket.send(left[: 1 << 16]) :]
        except BlockingIOError:
            pass
        except OSError:
            self.closed = True
        return left
