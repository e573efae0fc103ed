import asyncio
import contextlib
import errno
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pool_service.adapters.probe import http_get
from pool_service.adapters.probe.http_get import MAX_BODY_BYTES, Answer, get, own_ports

LONG = 30.0
SHORT = 0.1
HELD_UP_S = 0.2
"""More than any turn of the loop may take, also on a slow machine; a flood took it for ever."""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server on loopback that does one thing to each connection, and counts them."""

    def __init__(self) -> None:
        self.open = 0
        self.requests: list[bytes] = []
        self.asked = asyncio.Event()
        self.all_closed = asyncio.Event()


@asynccontextmanager
async def peer(talk: Talk) -> AsyncIterator[tuple[Peer, int]]:
    state = Peer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.open += 1
        try:
            state.requests.append(await reader.readuntil(b"\r\n\r\n"))
            state.asked.set()
            await talk(reader, writer)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
            state.open -= 1
            state.all_closed.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield state, server.sockets[0].getsockname()[1]


async def test_the_port_of_a_request_is_the_pools_own_while_it_is_in_flight() -> None:
    own = list[bool]()

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        own.append(writer.get_extra_info("peername")[1] in own_ports())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with peer(talk) as (_, port):
        await get("127.0.0.1", port, "/", LONG)
    assert own == [True]
    assert own_ports() == frozenset()


async def test_an_answer_in_a_few_pieces_is_read_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_get, "_CRUMB_PAUSE_S", LONG)

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 2\r\n\r\no", b"k"):
            writer.write(piece)
            await asyncio.sleep(0.01)

    async with peer(talk) as (_, port):
        answer = await get("127.0.0.1", port, "/", LONG / 2)
    assert answer is not None
    assert answer.body == b"ok"


def says(response: bytes) -> Talk:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)
        await writer.drain()

    return talk


async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def test_an_answer_comes_whole_with_its_type() -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
    async with peer(says(response)) as (state, port):
        assert await get("127.0.0.1", port, "/health", LONG) == Answer(200, "text/plain", b"ok")
        await state.all_closed.wait()
    request = state.requests[0]
    assert request.startswith(b"GET /health HTTP/1.1\r\n")
    assert f"host: 127.0.0.1:{port}".encode() in request.lower()


async def test_a_body_that_ends_with_the_connection_is_whole() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nok")
        writer.close()

    async with peer(talk) as (_, port):
        assert await get("127.0.0.1", port, "/", LONG) == Answer(200, "", b"ok")


async def test_an_interim_response_is_passed_over() -> None:
    response = b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with peer(says(response)) as (_, port):
        assert await get("127.0.0.1", port, "/", LONG) == Answer(200, "", b"")


async def test_a_redirect_is_an_answer_and_not_followed() -> None:
    response = b"HTTP/1.1 307 Go\r\nLocation: /health\r\nContent-Length: 0\r\n\r\n"
    async with peer(says(response)) as (state, port):
        answer = await get("127.0.0.1", port, "/health", LONG)
    assert answer == Answer(307, "", b"")
    assert len(state.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        b"\x00\x01\x02 no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY_BYTES + 1)
        + b"x" * (MAX_BODY_BYTES + 1),
    ],
)
async def test_what_is_no_bounded_http_is_no_answer(response: bytes) -> None:
    async with peer(says(response)) as (state, port):
        assert await get("127.0.0.1", port, "/", LONG) is None
        await state.all_closed.wait()


async def test_an_endless_body_is_cut_off_by_its_size() -> None:
    async with peer(endless) as (state, port):
        assert await get("127.0.0.1", port, "/", LONG) is None
        await state.all_closed.wait()
    assert state.open == 0


async def test_a_cut_off_body_is_no_answer() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok")
        writer.close()

    async with peer(talk) as (_, port):
        assert await get("127.0.0.1", port, "/", LONG) is None


async def test_a_silent_peer_is_given_up_and_its_connection_closed() -> None:
    async with peer(says(b"")) as (state, port):
        assert await get("127.0.0.1", port, "/", SHORT) is None
        await state.all_closed.wait()


async def test_nobody_listening_is_no_answer(unused_tcp_port: int) -> None:
    assert await get("127.0.0.1", unused_tcp_port, "/", LONG) is None


async def test_cancelling_closes_the_connection() -> None:
    async with peer(says(b"HTTP/1.1 200 OK\r\n")) as (state, port):
        task = asyncio.create_task(get("127.0.0.1", port, "/", LONG))
        await state.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await state.all_closed.wait()


# --- peers that never come to an end ----------------------------------------------------------


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BULK = 1000
ENDLESS = {
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * BULK),
    "interim responses with headers": (b"", b"HTTP/1.1 103 H\r\nLink: x\r\n\r\n" * BULK),
    "headers": (HEAD, b"X: y\r\n" * BULK),
    "one header": (HEAD + b"X: ", b"y" * BULK),
    "folded lines of one header": (HEAD + b"X: y\r\n", b" y\r\n" * BULK),
    "a status line": (b"HTTP/1.1 200 ", b"K" * BULK),
    "empty lines": (b"", b"\r\n" * BULK),
    "a body": (HEAD + b"\r\n", b"x" * BULK),
    "small chunks": (CHUNKED, b"1\r\nx\r\n" * BULK),
    "a chunk": (CHUNKED + b"fffffff\r\n", b"x" * BULK),
    "the size of a chunk": (CHUNKED, b"0" * BULK),
    "a chunk's extension": (CHUNKED + b"1;", b"x" * BULK),
    "chunks with extensions": (CHUNKED, b"1;a=b\r\nx\r\n" * BULK),
    "trailers": (CHUNKED + b"0\r\n", b"X: y\r\n" * BULK),
}


class Flood:
    """A peer in a thread of its own, which sends as fast as it is read, and in small pieces."""

    def __init__(self, first: bytes, more: bytes, piece: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._first, self._more, self._piece = first, more, piece
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        connection, _ = self._listener.accept()
        with self._listener, connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(4096)
            connection.sendall(self._first)
            while True:
                for start in range(0, len(self._more), self._piece):
                    connection.sendall(self._more[start : start + self._piece])

    def join(self) -> None:
        self._thread.join(LONG)
        assert not self._thread.is_alive(), "its connection was not closed"


async def longest_pause(until: asyncio.Event) -> float:
    """How long others waited for their turn at the most, until the event."""
    longest, before = 0.0, time.thread_time()
    while not until.is_set():
        await asyncio.sleep(0)
        now = time.thread_time()
        # Of the loop's own thread: on a loaded machine the wall clock would tell of others.
        longest, before = max(longest, now - before), now
    return longest


@pytest.mark.parametrize("piece", [100_000, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_peer_that_never_ends_is_given_up_and_holds_up_nobody(
    kind: str, piece: int
) -> None:
    flood, over = Flood(*ENDLESS[kind], piece), asyncio.Event()
    watching = asyncio.create_task(longest_pause(over))
    # Byte by byte it may take all the time that it is given; else its bytes are counted.
    answer = await get("127.0.0.1", flood.port, "/", LONG if piece > 1 else 0.3)
    over.set()
    assert answer is None
    assert await watching < HELD_UP_S
    await asyncio.to_thread(flood.join)


async def test_an_answer_that_comes_byte_by_byte_is_read() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
            writer.write(bytes([byte]))
            await writer.drain()

    async with peer(talk) as (_, port):
        assert await get("127.0.0.1", port, "/", LONG) == Answer(200, "", b"ok")


@pytest.mark.parametrize("size", [1000, MAX_BODY_BYTES])
async def test_an_answer_in_large_chunks_is_whole(size: int) -> None:
    body = b"x" * size
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part)
        for start in range(0, size, 4096)
        if (part := body[start : start + 4096])
    )
    async with peer(says(CHUNKED + chunks + b"0\r\n\r\n")) as (_, port):
        assert await get("127.0.0.1", port, "/", LONG) == Answer(200, "", body)


async def test_no_port_stays_one_of_ours_though_a_reset_socket_tells_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As macOS may do of one that was shut down."""
    asked: set[int] = set()
    really_tell = socket.socket.getsockname

    async with peer(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) as (_, port):

        def tell(one: socket.socket) -> tuple[str, int]:
            if one.getpeername()[1] == port:
                if one.fileno() in asked:
                    raise OSError(errno.EINVAL, "Invalid argument")
                asked.add(one.fileno())
            name: tuple[str, int] = really_tell(one)
            return name

        monkeypatch.setattr(socket.socket, "getsockname", tell)
        await get("127.0.0.1", port, "/", LONG)
        monkeypatch.undo()
    assert asked
    assert own_ports() == frozenset()
