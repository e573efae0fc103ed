"""Responses in pieces that come as they are: when they end, and what ends them."""

import asyncio

import pytest

from pool_service.http import limits
from tests.http.speaking import LIMIT_S, Peer, Site, site

LIVE = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNK = b"3\r\none\r\n"


async def streaming(served: Site) -> Peer:
    """A client to which a first piece was sent; more come when there is news."""
    peer = await served.connect()
    peer.send(LIVE)
    served.news.put_nowait(b"one")
    async with asyncio.timeout(LIMIT_S):
        assert (await peer.reader.readuntil(CHUNK)).startswith(b"HTTP/1.1 200")
    return peer


async def closed(served: Site) -> None:
    """The generator is closed."""
    await asyncio.wait_for(served.closed.wait(), LIMIT_S)


async def test_pieces_are_sent_as_they_come_and_the_connection_goes_on() -> None:
    async with site() as served:
        peer = await streaming(served)
        served.news.put_nowait(b"two")
        async with asyncio.timeout(LIMIT_S):
            await peer.reader.readuntil(b"3\r\ntwo\r\n")
            served.news.put_nowait(b"")
            await peer.reader.readuntil(b"0\r\n\r\n")
        await closed(served)
        assert (await peer.ask()).status == 200


async def test_a_client_that_goes_between_two_pieces_ends_the_stream_at_once() -> None:
    async with site() as served:
        (await streaming(served)).close()
        await closed(served)


async def test_a_client_that_has_gone_with_a_reset_ends_the_stream_at_once() -> None:
    async with site() as served:
        (await streaming(served)).writer.transport.abort()
        await closed(served)


async def test_a_client_that_ends_its_own_side_ends_the_stream_and_its_connection() -> None:
    async with site() as served:
        peer = await streaming(served)
        peer.writer.write_eof()
        await closed(served)
        assert await peer.ended() == b""


async def test_a_client_that_ends_its_side_gets_all_pieces_that_end_by_themselves() -> None:
    async with site() as served:
        peer = await served.connect()
        peer.send(b"GET /pieces HTTP/1.1\r\nHost: localhost\r\n\r\n")
        peer.writer.write_eof()
        assert (await peer.answer()).body == b"0,1,2,"


async def test_a_request_behind_a_stream_is_answered_when_it_has_ended() -> None:
    async with site() as served:
        peer = await streaming(served)
        peer.send(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.news.put_nowait(b"")
        async with asyncio.timeout(LIMIT_S):
            await peer.reader.readuntil(b"0\r\n\r\n")
        assert (await peer.answer()).body == b"hello"


async def test_a_client_that_sends_too_much_during_a_stream_is_disconnected() -> None:
    async with site() as served:
        peer = await streaming(served)
        peer.send(bytes(4 * limits.MAX_HEAD_BYTES))
        await closed(served)
        assert await peer.ended() == b""


async def test_a_client_that_takes_nothing_of_a_stream_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WRITE_TIMEOUT_S", 0.05)
    async with site() as served:
        await streaming(served)
        served.news.put_nowait(bytes(50_000_000))
        await closed(served)


async def test_head_of_a_stream_closes_it_unbegun() -> None:
    async with site() as served:
        peer = await served.connect()
        assert (await peer.ask("HEAD /live HTTP/1.1")).status == 200
        assert (await peer.ask()).status == 200
        assert not served.streaming.is_set()


async def test_the_end_of_the_listener_waits_for_no_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STOP_GRACE_S", 10 * LIMIT_S)
    async with site() as served:
        peer = await streaming(served)
        await asyncio.wait_for(served.listener.stop(), LIMIT_S)
        await closed(served)
        assert await peer.ended() == b""
