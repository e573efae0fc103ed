"""A listener whose places are all taken: who gives way, and what the others are told."""

import asyncio
import select

import pytest

from pool_service.http import limits
from tests.http.speaking import LIMIT_S, accepted, connected, site
from tests.world import settled


async def test_a_connection_too_many_takes_the_place_of_an_idle_one_or_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 2)
    async with site() as served:
        idle, waiting = [await served.connect() for _ in range(2)]
        assert (await idle.ask()).status == 200
        asked = asyncio.create_task(waiting.ask("GET /wait HTTP/1.1"))
        third = await served.connect()
        third_asked = asyncio.create_task(third.ask("GET /wait HTTP/1.1"))
        assert await idle.ended() == b""
        fourth = await served.connect()
        answer = await fourth.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        served.release.set()
        assert [(await one).body for one in (asked, third_asked)] == [b"released"] * 2


async def test_one_that_is_refused_reads_why_although_it_has_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 0)
    monkeypatch.setattr(limits, "LINGER_S", LIMIT_S)
    async with site() as served:
        with connected(served.address) as peer:
            # Answered, and only then asked: a reset would end the client before it reads.
            await settled(lambda: select.select([peer], [], [], 0)[0])
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(peer, b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await loop.sock_sendall(peer, bytes(100_000))
            async with asyncio.timeout(LIMIT_S):
                assert (await loop.sock_recv(peer, 1000)).startswith(b"HTTP/1.1 503")


async def test_of_those_that_are_refused_only_so_many_are_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 0)
    monkeypatch.setattr(limits, "MAX_REFUSED", 1)
    monkeypatch.setattr(limits, "LINGER_S", LIMIT_S)
    async with site() as served:
        answered = await served.connect()
        assert (await answered.answer()).status == 503
        assert await (await served.connect()).ended() == b""


async def test_silent_connections_give_way_to_one_that_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 2)
    async with site() as served:
        silent = [await served.connect() for _ in range(2)]
        await accepted(2)
        early = await served.connect()
        assert (await early.answer()).status == 503, "they may be about to ask"
        early.close()
        monkeypatch.setattr(limits, "MAX_SILENT_S", 0.0)
        assert (await (await served.connect()).ask()).status == 200
        assert await silent[0].ended() == b""
