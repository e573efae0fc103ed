"""Claims about single requests: what a server gets of them, and their callers of it."""

import asyncio
import contextlib
import gzip
import json
from io import BytesIO

import aiohttp
import pytest
from aiohttp import web

from pool_service.gateway import relay
from pool_service.gateway.callers import Sites
from pool_service.gateway.settings import Mode
from pool_service_client import InternalError, ModelRejected, PoolError, StartFailed
from tests.gateway.one_server import (
    CHAT,
    MESSAGES,
    STREAM,
    TOKEN,
    Handler,
    Setting,
    echo,
    events,
    raw,
    setting,
)

EVENTS = "text/event-stream"


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


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (ModelRejected("no such layers", reason="MODEL_REJECTED"), 422),
        (InternalError("a bug", reason="INTERNAL"), 500),
    ],
)
async def test_what_no_second_try_mends_says_so(failure: PoolError, status: int) -> None:
    async with setting(echo) as here:
        here.pool.failures["m"] = failure
        response = await here.post(json={"model": "m"})
        assert (response.status, response.headers["x-should-retry"]) == (status, "false")


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


def breaking(kind: str, said: bytes, length: int | None = None) -> Handler:
    """Return a server that breaks off after a part of its answer."""

    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": kind})
        response.content_length = length
        await response.prepare(request)
        await response.write(said)
        assert request.transport is not None
        request.transport.abort()
        return response

    return breaks


@pytest.mark.parametrize("is_stream", [True, False])
async def test_an_answer_that_breaks_off_is_told_as_well_as_it_can_be(*, is_stream: bool) -> None:
    kind = EVENTS if is_stream else "application/json"
    async with setting(breaking(kind, b"data: {}\n\n")) as here:
        response = await here.post(json=STREAM)
        if is_stream:
            assert "server_died" in await response.text()
        else:
            with pytest.raises(aiohttp.ClientError):
                await response.read()


async def test_an_event_of_which_a_part_came_does_not_spoil_the_error_after_it() -> None:
    async with setting(breaking(EVENTS, b'data: {"a')) as here:
        text = await (await here.post(json=STREAM)).text()
        _, error = text.rstrip().split("\n\n")
        assert json.loads(error.removeprefix("data: "))["error"]["code"] == "server_died"


async def test_an_event_stream_with_a_length_that_breaks_off_gets_nothing_beyond_it() -> None:
    async with setting(breaking(EVENTS, b"data: {}\n\n", length=60)) as here:
        response = await here.post(json=STREAM)
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_half_an_answer_is_no_whole_one_by_an_older_protocol() -> None:
    async with setting(breaking("text/plain", b"abc")) as here:
        with pytest.raises(ConnectionResetError):
            await whole(here, "Connection: keep-alive\r\n")


async def test_the_end_of_an_answer_is_that_of_the_connection_by_an_older_protocol() -> None:
    async with setting(events) as here:
        answer = await whole(here, "Connection: keep-alive\r\n")
        assert answer.endswith(b"\r\n\r\ndata: {}\n\ndata: [DONE]\n\n")


async def whole(here: Setting, headers: str) -> bytes:
    """Ask by HTTP/1.0; return all that comes until the connection ends."""
    host, _, port = here.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        body = b'{"model": "m"}'
        head = f"POST {CHAT} HTTP/1.0\r\nHost: localhost\r\n{headers}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


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
