"""A gateway over a scripted pool, before one server that answers as a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.trace import TracerProvider

from pool_service.gateway.callers import Sites
from pool_service.gateway.gateway import Gateway
from pool_service.gateway.pools import Service
from pool_service.gateway.settings import Mode, Settings
from tests.gateway.scripted_pool import ScriptedPool

if TYPE_CHECKING:
    from pool_service_client import AsyncPoolClient

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
STREAM = {"model": "m", "stream": True}
TOKEN = f"pst_{'a' * 43}"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Setting:
    """A gateway before one server. url: the gateway's; pool: whose model "m" the server is."""

    url: str
    pool: ScriptedPool
    session: aiohttp.ClientSession

    async def post(
        self,
        path: str = CHAT,
        **options: Any,  # noqa: ANN401 - those of the library
    ) -> aiohttp.ClientResponse:
        return await self.session.post(self.url + path, allow_redirects=False, **options)


@asynccontextmanager
async def setting(
    handler: Handler,
    mode: Mode = Mode.PROXY,
    wait_s: float = 60.0,
    sites: Sites = Sites(),  # noqa: B008 - frozen
    load_s: float = 0.0,
    provider: TracerProvider | None = None,
) -> AsyncIterator[Setting]:
    app = web.Application(client_max_size=2**27)
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        pool = ScriptedPool(load_s=load_s, endpoint=str(server.make_url("")).rstrip("/"))
        settings = Settings("127.0.0.1", 0, mode, wait_s, sites)
        client = cast("AsyncPoolClient", pool)
        gateway = Gateway(settings, Service(lambda: "", lambda _token: client), provider)
        try:
            yield Setting(await gateway.start(), pool, session)
        finally:
            await gateway.stop()


async def echo(request: web.Request) -> web.Response:
    """Answer with what came."""
    body = (await request.read()).decode("utf-8", "replace")
    return web.json_response({"headers": dict(request.headers), "body": body})


async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: {}\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def raw(here: Setting, head: str, body: bytes = b'{"model": "m"}') -> bytes:
    """Send a request as it is; return what comes first of the answer."""
    host, _, port = here.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        length = f"Content-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode("latin-1") + length.encode() + body)
        return await reader.read(4096)
    finally:
        writer.close()
        await writer.wait_closed()
