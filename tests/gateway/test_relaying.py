"""Claims about single requests, over a scripted pool and a server that answers as a test says."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pool_service.gateway import inference, relay
from pool_service.gateway.callers import Sites
from pool_service.gateway.gateway import Gateway
from pool_service.gateway.pools import Service
from pool_service.gateway.settings import Mode, Settings
from pool_service_client import AsyncPoolClient, ModelRejected, StartFailed
from tests.gateway.scripted_pool import ScriptedPool

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
) -> AsyncIterator[Setting]:
    app = web.Application(client_max_size=2**27)
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        pool = ScriptedPool(load_s=load_s, endpoint=str(server.make_url("")).rstrip("/"))
        settings = Settings("127.0.0.1", 0, mode, wait_s, sites)
        client = cast("AsyncPoolClient", pool)
        gateway = Gateway(settings, Service(lambda: "", lambda _token: client))
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let signs of life be sent after a moment."""
    monkeypatch.setattr(relay, "QUIET_S", 0.02)


# --- what a server gets ------------------------------------------------------------------------


async def test_a_server_gets_its_own_key_and_none_of_the_callers() -> None:
    async with setting(echo) as here:
        here.pool.api_key = "of the server"
        shown = {
            "Authorization": "Bearer sk-mine",
            "x-api-key": "mine",
            "Cookie": "a=b",
            "X-A": "b",
        }
        answer = await (await here.post(json={"model": "m"}, headers=shown)).json()
        assert answer["headers"]["Authorization"] == "Bearer of the server"
        assert answer["headers"]["X-A"] == "b"
        assert not {"x-api-key", "Cookie"} & answer["headers"].keys()


async def test_a_prompt_of_ten_megabytes_arrives_as_it_was() -> None:
    body = json.dumps({"messages": "x" * 10_000_000, "model": "m"})
    async with setting(echo) as here:
        kind = {"Content-Type": "application/json"}
        answer = await (await here.post(data=BytesIO(body.encode()), headers=kind)).json()
        assert answer["body"] == body


async def test_a_packed_request_arrives_unpacked() -> None:
    async with setting(echo) as here:
        packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        body = gzip.compress(b'{"model": "m"}')
        answer = await (await here.post(data=body, headers=packed)).json()
        assert answer["body"] == '{"model": "m"}'
        assert "Content-Encoding" not in answer["headers"]
        assert (await here.post(data=b"no gzip", headers=packed)).status == 400


@pytest.mark.parametrize("mode", Mode)
async def test_a_target_with_an_address_means_its_path(mode: Mode) -> None:
    """As a client sends it that takes the gateway for a proxy."""
    async with setting(echo, mode) as here:
        reply = await raw(here, f"POST {here.url}{CHAT} HTTP/1.1\r\nHost: localhost\r\n")
        assert reply.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 307 "))
        assert f"Location: {here.url}".encode() not in reply


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


# --- while a model loads -----------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
async def test_a_stream_gets_comments_while_its_model_loads_and_then_its_answer() -> None:
    async with setting(events, load_s=0.3) as here:
        response = await here.post(json=STREAM)
        text = await response.text()
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        assert text.startswith(": starting\n\n")
        assert text.endswith("data: {}\n\ndata: [DONE]\n\n")


@pytest.mark.usefixtures("impatient")
async def test_messages_of_anthropic_get_pings() -> None:
    async with setting(events, load_s=0.3) as here:
        text = await (await here.post(MESSAGES, json=STREAM)).text()
        assert text.startswith('event: ping\ndata: {"type": "ping"}\n\n')


@pytest.mark.usefixtures("impatient")
async def test_an_answer_that_is_no_stream_of_events_gets_no_comments() -> None:
    async with setting(echo, load_s=0.3) as here:
        response = await here.post("/v1/audio/speech", json=STREAM)
        assert response.content_type == "application/json"


@pytest.mark.usefixtures("impatient")
async def test_a_request_without_a_stream_gets_its_status_with_the_answer() -> None:
    async with setting(echo, load_s=0.3) as here:
        response = await here.post(json={"model": "m"})
        assert response.content_type == "application/json"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_a_start_that_fails_after_comments_is_an_event_of_the_api(path: str) -> None:
    async with setting(events, load_s=0.3) as here:
        here.pool.failures["m"] = StartFailed("it died", last_lines=("no room",))
        text = await (await here.post(path, json=STREAM)).text()
        last = text.rstrip().rpartition("\n\n")[2]
        assert last.startswith("event: error\ndata: " if path == MESSAGES else "data: ")
        error = json.loads(last.rpartition("data: ")[2])["error"]
        assert error["message"] == "it died\nno room"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "body", [{"error": {"message": "too long"}}, {"detail": "too long"}, "too long"], ids=str
)
async def test_a_servers_error_after_comments_is_an_event_of_the_api(body: object) -> None:
    async def refuses(_request: web.Request) -> web.Response:
        return web.Response(status=400, text=body if isinstance(body, str) else json.dumps(body))

    async with setting(refuses, load_s=0.3) as here:
        text = await (await here.post(json=STREAM)).text()
        error = json.loads(text.rstrip().rpartition("data: ")[2])["error"]
        assert error["message"] == "too long"


async def test_a_request_waits_no_longer_than_it_may_and_is_told_for_what() -> None:
    async with setting(echo, wait_s=0.2, load_s=60.0) as here:
        response = await here.post(json={"model": "m"})
        assert response.status == 503
        assert response.headers["Retry-After"] == "5"
        assert "it is starting" in (await response.json())["error"]["message"]


# --- errors ------------------------------------------------------------------------------------


async def test_a_servers_own_error_arrives_as_it_is() -> None:
    async def refuses(_request: web.Request) -> web.Response:
        return web.json_response({"detail": "no"}, status=418, headers={"X-Why": "tea"})

    async with setting(refuses) as here:
        response = await here.post(json={"model": "m"})
        assert (response.status, response.headers["X-Why"]) == (418, "tea")
        assert await response.json() == {"detail": "no"}


async def test_what_no_second_try_mends_says_so() -> None:
    async with setting(echo) as here:
        here.pool.failures["m"] = ModelRejected("no such layers", reason="MODEL_REJECTED")
        response = await here.post(json={"model": "m"})
        assert (response.status, response.headers["x-should-retry"]) == (422, "false")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"model": 1}', b"\xff", b'{"a":' * 100_000],
    ids=lambda body: repr(body[:16]),
)
async def test_a_body_without_a_model_is_refused(body: bytes) -> None:
    async with setting(echo) as here:
        response = await here.post(data=body)
        assert response.status == 400
        assert (await response.json())["error"]["type"] == "invalid_request_error"


async def test_a_path_that_no_model_has_is_refused() -> None:
    async with setting(echo) as here:
        for path in ("/v1/cache", "/metrics", "/v1/chat"):
            assert (await here.post(path, json={"model": "m"})).status == 404


@pytest.mark.parametrize("is_stream", [True, False])
async def test_an_answer_that_breaks_off_is_told_as_well_as_it_can_be(*, is_stream: bool) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        kind = "text/event-stream" if is_stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        await response.write(b"data: {}\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with setting(breaks) as here:
        response = await here.post(json=STREAM)
        if is_stream:
            assert "server_died" in await response.text()
        else:
            with pytest.raises(aiohttp.ClientError):
                await response.read()


# --- redirects ---------------------------------------------------------------------------------


async def test_a_caller_is_sent_to_the_server_where_it_can_go_there() -> None:
    async with setting(echo, Mode.REDIRECT) as here:
        response = await here.post(f"{CHAT}?a=b", json={"model": "m"})
        assert response.status == 307
        assert response.headers["Location"] == f"{here.pool.endpoint}{CHAT}?a=b"


async def test_a_server_with_a_key_and_callers_from_elsewhere_are_served_by_the_gateway() -> None:
    async with setting(echo, Mode.REDIRECT) as here:
        proxied = {"X-Forwarded-For": "10.0.0.1", "x-api-key": TOKEN}
        assert (await here.post(json={"model": "m"}, headers=proxied)).status == 200
    async with setting(echo, Mode.REDIRECT) as here:
        here.pool.api_key = "of the server"
        assert (await here.post(json={"model": "m"})).status == 200


async def test_a_web_page_is_sent_nowhere() -> None:
    """The server would not let it read the answer."""
    sites = Sites(origins=frozenset({"http://mine"}))
    async with setting(echo, Mode.REDIRECT, sites=sites) as here:
        response = await here.post(json={"model": "m"}, headers={"Origin": "http://mine"})
        assert response.status == 200
        assert response.headers["Access-Control-Allow-Origin"] == "http://mine"


@pytest.mark.usefixtures("impatient")
async def test_a_stream_that_has_had_comments_is_sent_nowhere() -> None:
    async with setting(events, Mode.REDIRECT, load_s=0.3) as here:
        response = await here.post(json=STREAM)
        assert (await response.text()).endswith("data: [DONE]\n\n")


# --- who calls ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP"]
)
async def test_what_a_proxy_hands_on_needs_a_token(name: str) -> None:
    async with setting(echo) as here:
        assert (await here.post(json={"model": "m"}, headers={name: "x"})).status == 401
        with_token = {name: "x", "Authorization": f"Bearer {TOKEN}"}
        assert (await here.post(json={"model": "m"}, headers=with_token)).status == 200


async def test_a_gateway_may_ask_everybody_for_a_token() -> None:
    async with setting(echo, sites=Sites(demands_token=True)) as here:
        assert (await here.post(json={"model": "m"})).status == 401
        assert (await here.post(json={"model": "m"}, headers={"x-api-key": TOKEN})).status == 200


async def test_a_token_counts_whatever_else_is_shown() -> None:
    async with setting(echo, sites=Sites(demands_token=True)) as here:
        both = {"Authorization": "Bearer none", "x-api-key": TOKEN}
        assert (await here.post(json={"model": "m"}, headers=both)).status == 200


@pytest.mark.parametrize("token", [TOKEN + "a", TOKEN[:-1], "pst_", "pst_a b"])
async def test_a_cut_token_is_told_and_is_no_dummy(token: str) -> None:
    async with setting(echo) as here:
        response = await here.post(json={"model": "m"}, headers={"x-api-key": token})
        assert (response.status, (await response.json())["error"]["code"]) == (401, "token_unknown")


@pytest.mark.parametrize("host", ["[", "evil.example", ""])
async def test_a_strange_host_is_refused(host: str) -> None:
    async with setting(echo) as here:
        reply = await raw(here, f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\n")
        assert reply.startswith((b"HTTP/1.1 403 ", b"HTTP/1.1 400 "))


async def test_what_is_no_request_is_told_to_its_sender_and_not_to_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with setting(echo) as here:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\x01\r\n"
        assert (await raw(here, head)).startswith(b"HTTP/1.0 400 ")
    assert "secret" not in caplog.text


# --- bounds ------------------------------------------------------------------------------------


async def test_what_is_too_large_is_refused_while_it_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inference, "MAX_BODY_BYTES", 100_000)
    async with setting(echo) as here:
        body = json.dumps({"model": "m", "messages": "x" * 100_000}).encode()
        response = await here.post(data=body)
        assert (response.status, (await response.json())["error"]["code"]) == (
            413,
            "request_too_large",
        )
        assert (await here.post(json={"model": "m"})).status == 200


async def test_slow_requests_take_nobodys_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "MAX_READING_BYTES", 100_000)

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"model": "m", '
        begun.set()
        await goes_on.wait()
        yield b'"a": 1}'

    begun, goes_on = asyncio.Event(), asyncio.Event()
    async with setting(echo) as here:
        others = [asyncio.create_task(here.post(data=slow())) for _ in range(50)]
        await begun.wait()
        assert (await here.post(json={"model": "m"})).status == 200
        large = json.dumps({"model": "m", "messages": "x" * 100_000}).encode()
        response = await here.post(data=large)
        assert (response.status, response.headers["Retry-After"]) == (503, "2")
        goes_on.set()
        assert {one.status for one in await asyncio.gather(*others)} == {200}
        assert (await here.post(json={"model": "m", "a": "x" * 90_000})).status == 200


async def test_a_slow_reader_slows_its_server_down() -> None:
    """And so takes no memory for what it has not read."""
    sent = 0
    stands = asyncio.Event()

    async def pours(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                async with asyncio.timeout(1.0):
                    await response.write(b"x" * 65536)
                sent += 65536
        except TimeoutError:
            stands.set()
        return response

    async with setting(pours) as here:
        response = await here.post(json=STREAM)
        await response.content.read(1)
        async with asyncio.timeout(60):
            await stands.wait()
        assert sent < 64 * 2**20
        response.close()


async def test_a_caller_that_goes_away_ends_the_work_of_its_server() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def works(_request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    async with setting(works) as here:
        asking = asyncio.create_task(here.post(json={"model": "m"}))
        await begun.wait()
        asking.cancel()
        async with asyncio.timeout(60):
            await ended.wait()
