"""Ways to abuse HTTP/2: each opens its connections in `stack`, and leaves them open."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    ExtensionFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.http2.peer import (
    Peer,
    PeerError,
    encoded,
    headers_frames,
    message_frame,
    request_headers,
)

CANCEL = 8
STREAMS = 20_000
CHUNK = 500
"""Streams that are sent at once."""

DEAF_PATIENCE_S = 3.0
"""How long a peer that reads nothing waits until it is taken from again."""

Abuse = Callable[[str, ExitStack], object]

WATCH = encoded(request_headers("Watch"))
LIST = encoded(request_headers("List"))


def _streams(count: int) -> range:
    return range(1, 2 * count, 2)


def _call(stream: int, block: bytes = WATCH) -> bytes:
    return headers_frames(stream, block) + message_frame(stream)


def _flood(peer: Peer, frames: Iterator[bytes]) -> None:
    """Send all frames, many at a time, until the server closes."""
    chunk: list[bytes] = []
    for frame in frames:
        chunk.append(frame)
        if len(chunk) == CHUNK:
            if not peer.send(b"".join(chunk)):
                return
            chunk.clear()
    peer.send(b"".join(chunk))


def _resets(count: int, block: bytes = WATCH) -> Iterator[bytes]:
    for stream in _streams(count):
        yield _call(stream, block) + RstStreamFrame(stream, CANCEL).serialize()


def rapid_reset(address: str, stack: ExitStack) -> None:
    for _ in range(8):
        _flood(stack.enter_context(Peer(address)), _resets(STREAMS))


def rapid_reset_on_many_connections(address: str, stack: ExitStack) -> None:
    peers = [stack.enter_context(Peer(address)) for _ in range(40)]
    chunks = list(_resets(5000))
    for start in range(0, len(chunks), CHUNK):
        for peer in peers:
            peer.send(b"".join(chunks[start : start + CHUNK]))


def rapid_reset_of_unary_calls(address: str, stack: ExitStack) -> None:
    _flood(stack.enter_context(Peer(address)), _resets(STREAMS, LIST))


def rapid_reset_unread(address: str, stack: ExitStack) -> None:
    """The peer does not read what the server answers, so that this has to be kept."""
    peer = stack.enter_context(Peer(address, deaf=True))
    _flood_while_taken(peer, _resets(STREAMS))


def made_to_reset(address: str, stack: ExitStack) -> None:
    """The server is made to reset each stream itself, by a window update of nothing."""
    peer = stack.enter_context(Peer(address))

    def calls() -> Iterator[bytes]:
        for stream in _streams(STREAMS):
            bad = bytearray(WindowUpdateFrame(stream, 1).serialize())
            bad[-4:] = b"\0\0\0\0"
            yield _call(stream) + bytes(bad)

    _flood(peer, calls())


def reset_of_streams_that_never_were(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    _flood(peer, (RstStreamFrame(stream, CANCEL).serialize() for stream in _streams(200_000)))


def continuation_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    peer.send(HeadersFrame(1, WATCH).serialize())
    more = encoded([("x-more", "y" * 1000)])
    _flood(peer, (ContinuationFrame(1, more).serialize() for _ in range(50_000)))


def empty_continuation_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    peer.send(HeadersFrame(1, WATCH).serialize())
    _flood(peer, (ContinuationFrame(1, b"").serialize() for _ in range(500_000)))


def settings_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    _flood(peer, (SettingsFrame(0, {4: 65_535}).serialize() for _ in range(300_000)))


def settings_flood_unread(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address, deaf=True))
    _flood_while_taken(peer, (SettingsFrame(0).serialize() for _ in range(2_000_000)))


def ping_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    _flood(peer, (PingFrame(0, b"12345678").serialize() for _ in range(300_000)))


def ping_flood_unread(address: str, stack: ExitStack) -> None:
    for _ in range(4):
        peer = stack.enter_context(Peer(address, deaf=True))
        _flood_while_taken(peer, (PingFrame(0, b"12345678").serialize() for _ in range(300_000)))


def priority_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    _flood(
        peer,
        (PriorityFrame(stream, depends_on=0).serialize() for stream in _streams(200_000)),
    )


def unknown_frames(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    frame = ExtensionFrame(type=0xBE, stream_id=0, flag_byte=0, body=b"x" * 1000)
    _flood(peer, (frame.serialize() for _ in range(100_000)))


def window_update_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    peer.send(_call(1))
    _flood(peer, (WindowUpdateFrame(1, 1).serialize() for _ in range(300_000)))


def empty_data_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    peer.send(headers_frames(1, LIST))
    _flood(peer, (DataFrame(1, b"").serialize() for _ in range(300_000)))


def padded_data_flood(address: str, stack: ExitStack) -> None:
    peer = stack.enter_context(Peer(address))
    peer.send(headers_frames(1, LIST))
    frame = DataFrame(1, b"", pad_length=255)
    frame.flags.add("PADDED")
    _flood(peer, (frame.serialize() for _ in range(50_000)))


def closed_windows(address: str, stack: ExitStack) -> None:
    """Calls whose answers may not be sent, since the peer's window is shut."""
    for _ in range(4):
        peer = stack.enter_context(Peer(address, {SettingsFrame.INITIAL_WINDOW_SIZE: 0}))
        _flood(peer, (_call(stream, LIST) for stream in _streams(2000)))


def half_open_streams(address: str, stack: ExitStack) -> None:
    """Calls that are begun, with nothing of their message."""
    for _ in range(4):
        peer = stack.enter_context(Peer(address))
        _flood(peer, (headers_frames(stream, LIST) for stream in _streams(2000)))


def half_sent_messages(address: str, stack: ExitStack) -> None:
    """Messages of which the last byte never comes."""
    length = 16_000
    parts = [b"\0" + length.to_bytes(4, "big"), *[b"\x0a" * 15_000]]
    for _ in range(4):
        peer = stack.enter_context(Peer(address))
        _flood_while_taken(
            peer,
            (
                headers_frames(stream, LIST)
                + b"".join(message_frame(stream, part, end=False) for part in parts)
                for stream in _streams(2000)
            ),
        )


def header_bomb(address: str, stack: ExitStack) -> None:
    """A long header is put into the table once, and then named again and again."""
    peer = stack.enter_context(Peer(address))
    encoder = hpack.Encoder()
    table = encoder.encode([*request_headers("List"), ("x-bomb", "b" * 3900)], huffman=False)
    peer.send(headers_frames(1, table) + message_frame(1))
    named = encoder.encode([("x-bomb", "b" * 3900)], huffman=False)
    again = encoder.encode(request_headers("List"), huffman=False) + named * 16_000
    _flood(
        peer,
        (headers_frames(stream, again) + message_frame(stream) for stream in _streams(2000)[1:]),
    )


def giant_metadata(address: str, stack: ExitStack) -> None:
    for _ in range(10):
        peer = stack.enter_context(Peer(address))
        block = encoded(request_headers("List", [(f"x-{n}", "v" * 4000) for n in range(250)]))
        _flood(peer, (_call(stream, block) for stream in _streams(50)))


def allowed_metadata(address: str, stack: ExitStack) -> None:
    """As much metadata with each call as is taken, of calls that stay open."""
    block = encoded(request_headers("Watch", [("x-large", "v" * 7000)]))
    peer = stack.enter_context(Peer(address))
    _flood(peer, (_call(stream, block) for stream in _streams(5000)))


def idle_connections(address: str, stack: ExitStack) -> None:
    for _ in range(500):
        stack.enter_context(Peer(address))


def watches_that_are_never_read(address: str, stack: ExitStack) -> None:
    for _ in range(4):
        peer = stack.enter_context(Peer(address, deaf=True))
        _flood_while_taken(peer, (_call(stream) for stream in _streams(1000)))


def _flood_while_taken(peer: Peer, frames: Iterator[bytes]) -> None:
    """Send frames until the server closes, or takes no more since nobody reads its answers."""
    peer.patience_s = DEAF_PATIENCE_S
    try:
        _flood(peer, frames)
    except PeerError:
        return


FEW_MB, MANY_MB = 60, 400
"""Few: nothing that is kept grows with the abuse. Many: each call costs, up to a limit."""

ABUSES: dict[Abuse, int] = {
    rapid_reset: MANY_MB,
    rapid_reset_on_many_connections: MANY_MB,
    rapid_reset_of_unary_calls: MANY_MB,
    rapid_reset_unread: MANY_MB,
    made_to_reset: FEW_MB,
    reset_of_streams_that_never_were: FEW_MB,
    continuation_flood: FEW_MB,
    empty_continuation_flood: FEW_MB,
    settings_flood: FEW_MB,
    settings_flood_unread: FEW_MB,
    ping_flood: FEW_MB,
    ping_flood_unread: FEW_MB,
    priority_flood: FEW_MB,
    unknown_frames: FEW_MB,
    window_update_flood: FEW_MB,
    empty_data_flood: FEW_MB,
    padded_data_flood: FEW_MB,
    closed_windows: MANY_MB,
    half_open_streams: MANY_MB,
    half_sent_messages: MANY_MB,
    header_bomb: FEW_MB,
    giant_metadata: MANY_MB,
    allowed_metadata: MANY_MB,
    idle_connections: FEW_MB,
    watches_that_are_never_read: MANY_MB,
}
"""Each with the megabytes by which the service may grow meanwhile."""
