"""Claims about connections to servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from pool_service.gateway import server_connection, servers
from pool_service.gateway.server_connection import ServerConnection, ServerGone
from pool_service.gateway.servers import Servers, ServerUnreachable

REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
LARGE = bytes(10_000_000)


@dataclass
class Connection:
    """A connection as its server has it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def request(self) -> bytes:
        """Return a request's head and body; b"" if the connection has ended."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return b""
        return head + await self.reader.readexactly(length_of(head))

    def say(self, text: bytes) -> None:
        self.writer.write(text)


def length_of(head: bytes) -> int:
    return int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])


Play = Callable[[Connection], Awaitable[None]]


@dataclass
class Setting:
    """A server, and the connections to it."""

    url: str
    servers: Servers
    accepted: list[Connection] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at each connection."""

    async def body(self, body: bytes = b"", **headers: str) -> bytes:
        """Send a request, and return the answer's body."""
        with await self.servers.send("POST", f"{self.url}/path?a=b", headers, body) as answer:
            return await answer.read(100)


@asynccontextmanager
async def setting(play: Play) -> AsyncIterator[Setting]:
    """Run a server that plays something on each connection."""
    here = Setting("", Servers())

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        here.accepted.append(Connection(reader, writer))
        here.changed.set()
        try:
            await play(here.accepted[-1])
        finally:
            writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        here.url = "http://127.0.0.1:{1}".format(*server.sockets[0].getsockname())
        yield here
        here.servers.close()


async def answers(connection: Connection) -> None:
    """Answer each request."""
    while await connection.request():
        connection.say(REPLY)


async def test_a_request_arrives_as_it_was_sent() -> None:
    asked: list[bytes] = []

    async def play(connection: Connection) -> None:
        asked.append(await connection.request())
        connection.say(REPLY)

    async with setting(play) as here:
        assert await here.body(b"{}", Ünusual="ü") == b"abc"
        host = here.url.removeprefix("http://")
        head = f"POST /path?a=b HTTP/1.1\r\nHost: {host}\r\nContent-Length: 2\r\nÜnusual: ü\r\n\r\n"
        assert asked == [head.encode() + b"{}"]


@pytest.mark.parametrize("value", ["a\r\nInjected: b", "a\nb", "a\rb"])
async def test_a_header_with_a_line_break_is_not_sent(value: str) -> None:
    async with setting(answers) as here:
        with pytest.raises(ValueError, match="line break"):
            await here.body(A=value)
        assert not here.accepted


async def test_a_connection_takes_one_request_after_another_and_two_at_once_take_two() -> None:
    async with setting(answers) as here:
        for _ in range(3):
            assert await here.body() == b"abc"
        assert len(here.accepted) == 1
        await asyncio.gather(here.body(), here.body())
        assert len(here.accepted) == 2


async def test_an_unused_connection_is_closed_before_its_server_does_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(servers, "KEPT_S", 0.01)
    closed = asyncio.Event()

    async def play(connection: Connection) -> None:
        await answers(connection)
        closed.set()

    async with setting(play) as here:
        await here.body()
        await closed.wait()
        await here.body()
        assert len(here.accepted) == 2


async def test_a_connection_that_its_server_has_closed_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = asyncio.Event()

    class Noticed(ServerConnection):
        def connection_lost(self, error: Exception | None) -> None:
            super().connection_lost(error)
            lost.set()

    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(REPLY)

    monkeypatch.setattr(servers, "ServerConnection", Noticed)
    async with setting(play) as here:
        assert await here.body() == b"abc"
        await lost.wait()
        assert await here.body() == b"abc"
        assert len(here.accepted) == 2


async def test_what_is_said_unasked_ends_a_connection() -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(REPLY + REPLY)
        assert not await connection.request()

    async with setting(play) as here:
        assert await here.body() == b"abc"
        assert await here.body() == b"abc"
        assert len(here.accepted) == 2


async def test_a_request_that_is_cancelled_closes_its_connection() -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        asked.set()
        assert not await connection.request()
        left.set()

    async with setting(play) as here:
        request = asyncio.create_task(here.body())
        await asked.wait()
        request.cancel()
        await left.wait()
        with pytest.raises(asyncio.CancelledError):
            await request


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", REPLY[:-1], b"220 mail\r\n"])
async def test_an_answer_that_breaks_off_is_told(said: bytes) -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(said)

    async with setting(play) as here:
        with pytest.raises(ServerGone):
            await here.body()


async def test_where_nobody_listens_is_told() -> None:
    async with setting(answers) as here:
        pass
    with pytest.raises(ServerUnreachable) as caught:
        await here.body()
    assert caught.value.has_ended


async def test_an_answer_until_the_connection_is_closed_is_whole() -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(b"HTTP/1.1 200 OK\r\n\r\nabc")

    async with setting(play) as here:
        assert await here.body() == b"abc"


async def test_a_large_request_arrives_at_a_server_that_reads_it_late() -> None:
    begins = asyncio.Event()
    came = b""

    async def play(connection: Connection) -> None:
        nonlocal came
        await begins.wait()
        came = await connection.request()
        connection.say(REPLY)

    async with setting(play) as here:
        request = asyncio.create_task(here.body(LARGE))
        await here.changed.wait()
        begins.set()
        assert await request == b"abc"
        assert came.endswith(b"\r\n\r\n" + LARGE)


async def test_a_large_request_that_is_refused_unread_gets_its_answer() -> None:
    async def play(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nabc")
        # It closes without a reset of the connection once the rest has come, or no more comes.
        while await connection.reader.read(2**16):
            pass

    async with setting(play) as here:
        assert await here.body(LARGE) == b"abc"
        assert not here.servers._unused


async def test_a_server_that_answers_before_it_has_read_all_gets_the_rest() -> None:
    length = 0

    async def play(connection: Connection) -> None:
        nonlocal length
        head = await connection.reader.readuntil(b"\r\n\r\n")
        connection.say(REPLY[:-1])
        length = len(await connection.reader.readexactly(length_of(head)))
        connection.say(REPLY[-1:])

    async with setting(play) as here:
        assert await here.body(LARGE) == b"abc"
        assert length == len(LARGE)


async def test_a_connection_that_was_paused_at_its_answers_end_is_not_used_again() -> None:
    """Nobody knows what came after the answer."""

    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(REPLY + REPLY)
        assert not await connection.request()

    async with setting(play) as here:
        with await here.servers.send("POST", here.url, {}, b"") as answer:
            await answer.pass_on(lambda _piece: answer.pause())
        assert await here.body() == b"abc"
        assert len(here.accepted) == 2


@pytest.mark.parametrize("status", [b"200 OK", b"413 Too Large"])
async def test_a_server_that_ends_before_it_has_read_all_is_heard(status: bytes) -> None:
    over = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.say(b"HTTP/1.1 " + status + b"\r\n\r\nabc")
        connection.writer.write_eof()
        await over.wait()

    async with setting(play) as here:
        assert await here.body(LARGE) == b"abc"
        over.set()


async def test_a_server_that_ends_without_an_answer_while_it_is_asked_is_told() -> None:
    over = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.write_eof()
        await over.wait()

    async with setting(play) as here:
        with pytest.raises(ServerGone):
            await here.body(LARGE)
        over.set()


async def test_a_server_that_refuses_first_and_reads_then_gets_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server_connection, "REFUSAL_S", 0.01)

    async def play(connection: Connection) -> None:
        head = await connection.reader.readuntil(b"\r\n\r\n")
        connection.say(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\n\r\n")
        await connection.reader.readexactly(length_of(head))
        connection.say(b"abc")

    async with setting(play) as here:
        assert await here.body(LARGE) == b"abc"


async def test_a_connection_with_a_request_that_is_not_sent_yet_takes_no_other() -> None:
    over = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.say(REPLY)
        await over.wait()

    async with setting(play) as here:
        assert await here.body(LARGE) == b"abc"
        assert await here.body() == b"abc"
        assert len(here.accepted) == 2
        over.set()


async def test_no_more_is_read_than_is_wanted() -> None:
    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(b"HTTP/1.1 500 Error\r\n\r\n")
        while not connection.writer.is_closing():
            connection.say(b"a" * 1000)
            await connection.writer.drain()

    async with setting(play) as here:
        assert await here.body() == b"a" * 100


async def test_an_error_of_the_reader_is_raised_and_ends_the_request() -> None:
    left = asyncio.Event()

    async def play(connection: Connection) -> None:
        await connection.request()
        connection.say(REPLY[:-1])
        assert not await connection.request()
        left.set()

    def fail(_piece: bytes) -> None:
        raise KeyError("reader")

    async with setting(play) as here:
        answer = await here.servers.send("POST", here.url, {}, b"")
        with answer, pytest.raises(KeyError, match="reader"):
            await answer.pass_on(fail)
        await left.wait()
