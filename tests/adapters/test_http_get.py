import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pool_service.adapters.http_get import MAX_BODY, Answer, get

LONG = 30.0
SHORT = 0.1

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
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1),
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
