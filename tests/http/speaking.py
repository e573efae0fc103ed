"""A listener with some routes, and raw connections to it."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from pool_service.access.authentication import Rules
from pool_service.access.principal import Scope
from pool_service.address import Address
from pool_service.http.exchange import OPEN, Request, Response, Route, Routes
from pool_service.http.listener import HttpListener
from tests.access.letting_in import admission
from tests.world import settled

LIMIT_S = 20.0
"""However loaded the machine is."""


@dataclass
class Site:
    """A listener, and what its handlers were asked."""

    listener: HttpListener
    address: str
    asked: list[Request]
    waits: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    news: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    streaming: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    peers: "list[Peer]" = field(default_factory=list)

    async def connect(self) -> "Peer":
        if self.address.startswith("unix:"):
            opened = await asyncio.open_unix_connection(self.address.removeprefix("unix:"))
        else:
            host, _, port = self.address.rpartition(":")
            opened = await asyncio.open_connection(host.strip("[]"), int(port))
        self.peers.append(Peer(*opened))
        return self.peers[-1]


@dataclass
class Answer:
    """One answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Peer:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, line: str = "GET /hello HTTP/1.1", *headers: str) -> Answer:
        lines = [line, *(headers or ("Host: localhost",)), "", ""]
        self.send("\r\n".join(lines).encode())
        return await self.answer(has_body=not line.startswith("HEAD"))

    async def answer(self, *, has_body: bool = True) -> Answer:
        async with asyncio.timeout(LIMIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await self._body(headers) if has_body else b""
        return Answer(int(head[0].split()[1]), headers, body)

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if "transfer-encoding" not in headers:
            return await self.reader.read()
        body = b""
        while size := int(await self.reader.readline(), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readline()
        await self.reader.readline()
        return body

    async def ended(self) -> bytes:
        """What still comes before the connection is closed."""
        async with asyncio.timeout(LIMIT_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        self.writer.close()


class _Handlers:
    def __init__(self, found: Site) -> None:
        self._found = found

    async def hello(self, request: Request) -> Response:
        self._found.asked.append(request)
        return Response(body=b"hello")

    async def echo(self, request: Request) -> Response:
        self._found.asked.append(request)
        return Response(body=request.body)

    async def pieces(self, _request: Request) -> Response:
        return Response(body=_three(), is_finite=True)

    async def wait(self, _request: Request) -> Response:
        self._found.waits.set()
        await self._found.release.wait()
        return Response(body=b"released")

    async def large(self, _request: Request) -> Response:
        self._found.waits.set()
        return Response(body=_much(), is_finite=True)

    async def live(self, _request: Request) -> Response:
        return Response(body=self._live())

    async def _live(self) -> AsyncGenerator[bytes]:
        self._found.streaming.set()
        try:
            while news := await self._found.news.get():
                yield news
        finally:
            self._found.closed.set()

    async def invalid(self, _request: Request) -> Response:
        return Response(headers=(("A", "two\nlines"),))

    async def fails(self, _request: Request) -> Response:
        raise LookupError("a bug")


async def _three() -> AsyncGenerator[bytes]:
    for number in range(3):
        yield b"%d," % number
        # What the client sends meanwhile is noticed.
        for _ in range(100):
            await asyncio.sleep(0)


async def _much() -> AsyncGenerator[bytes]:
    while True:
        yield bytes(1_000_000)


@asynccontextmanager
async def site(address: str = "127.0.0.1:0", rules: Rules | None = None) -> AsyncIterator[Site]:
    """A site of the paths in `_Handlers`; /echo is for POST, and /open is open to anybody.

    /wait waits until released; /live sends news until they are empty.
    """
    routes = Routes()
    listener = HttpListener(Address.parse(address), routes, admission(rules=rules))
    found = Site(listener, await listener.start(), [])
    handlers = _Handlers(found)
    for name in ("hello", "pieces", "wait", "large", "live", "fails", "invalid"):
        routes.add("GET", f"/{name}", Route(getattr(handlers, name), Scope.READ))
    routes.add("POST", "/echo", Route(handlers.echo, Scope.USE))
    routes.add("GET", "/open", Route(handlers.hello, OPEN))
    try:
        yield found
        await listener.stop()
    finally:
        for peer in found.peers:
            peer.close()
            with suppress(OSError):
                await peer.writer.wait_closed()


def connected(address: str) -> socket.socket:
    """A raw connection, for `sock_recv` and its like."""
    host, _, port = address.rpartition(":")
    connected = socket.create_connection((host, int(port)))
    connected.setblocking(False)
    return connected


def connections() -> list["asyncio.Task[None]"]:
    """The tasks of all connections."""
    return [task for task in asyncio.all_tasks() if task.get_name() == "http connection"]


async def accepted(count: int) -> None:
    """So many connections are served or refused."""
    await settled(lambda: len(connections()) == count)
