"""Claims about who may call, and how much each may send."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp import web

from pool_service.gateway import inference
from pool_service.gateway.callers import Sites
from tests.gateway.one_server import (
    CHAT,
    STREAM,
    TOKEN,
    echo,
    raw,
    setting,
)

CONNECTIONS = 100
"""Fewer than macOS lets wait (128)."""

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


async def test_many_connections_at_once_wait_until_they_are_accepted() -> None:
    """Connect while nothing is accepted, as this thread runs the gateway, too."""
    async with setting(echo) as here, AsyncExitStack() as stack:
        host, _, port = here.url.removeprefix("http://").partition(":")
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection((host, int(port)), timeout=10))
        answer = await here.post(json={"model": "m"})
        assert answer.status == 200
