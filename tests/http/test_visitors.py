"""Requests by HTTP are from known callers, or are refused before their handlers."""

import os

import pytest

from pool_service.access import tokens
from pool_service.access.authentication import Local, Rules
from pool_service.access.clients import Client, Clients
from pool_service.access.principal import LOCAL, Principal, Scope
from tests.http.speaking import site

NOBODY = 65534
TOKEN = tokens.new_token()
READER = Principal("reader", Scope.READ)


def token_rules() -> Rules:
    return Rules(Local.TOKEN, Clients([Client(READER, tokens.digest(TOKEN))]))


@pytest.mark.parametrize("address", ["127.0.0.1:0", "unix:"])
async def test_the_own_user_needs_no_token(address: str, socket_dir: object) -> None:
    where = f"unix:{socket_dir}/s" if address == "unix:" else address
    async with site(where) as served:
        peer = await served.connect()
        assert (await peer.ask()).status == 200
        (request,) = served.asked
        assert request.principal is LOCAL


@pytest.mark.skipif(os.getuid() != 0, reason="connects as another user")
async def test_another_user_is_refused_with_the_reason() -> None:
    async with site() as served:
        os.seteuid(NOBODY)
        try:
            peer = await served.connect()
        finally:
            os.seteuid(0)
        answer = await peer.ask()
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "bearer"
        assert str(NOBODY).encode() in answer.body
        assert (await peer.ask("GET /open HTTP/1.1")).status == 200
        assert len(served.asked) == 1


async def test_a_token_opens_what_its_scope_permits_and_nothing_else() -> None:
    shown = "Host: localhost", f"Authorization: Bearer {TOKEN}"
    async with site(rules=token_rules()) as served:
        peer = await served.connect()
        assert (await peer.ask()).status == 401
        assert (await peer.ask("GET /hello HTTP/1.1", *shown)).status == 200
        assert [request.principal for request in served.asked] == [READER]
        refused = await peer.ask("POST /echo HTTP/1.1", *shown, "Content-Length: 0")
        assert refused.status == 403
        assert b"scope use" in refused.body
        unknown = "Host: localhost", f"Authorization: Bearer {tokens.new_token()}"
        assert (await peer.ask("GET /hello HTTP/1.1", *unknown)).status == 401
        assert len(served.asked) == 1


async def test_what_nobody_serves_is_said_before_who_asks_is_looked_at() -> None:
    async with site(rules=token_rules()) as served:
        peer = await served.connect()
        assert (await peer.ask("GET /nothing HTTP/1.1")).status == 404


async def test_a_caller_who_is_refused_sends_no_body_into_the_service() -> None:
    async with site(rules=token_rules()) as served:
        peer = await served.connect()
        peer.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n")
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")


async def test_of_two_authorizations_none_counts() -> None:
    shown = f"Authorization: Bearer {TOKEN}"
    async with site(rules=token_rules()) as served:
        peer = await served.connect()
        answer = await peer.ask("GET /hello HTTP/1.1", "Host: localhost", shown, shown)
        assert answer.status == 401
        assert served.asked == []
