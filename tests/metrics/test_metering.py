"""/metrics and /healthz of a pool: true, and without any effect on it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from pool_service.address import Address
from pool_service.metering import Metering
from pool_service.metrics.text import CONTENT_TYPE
from tests.access.letting_in import admission
from tests.http.speaking import Answer, Peer
from tests.rpc.serving import Service, serving
from tests.world import FakeClock, Script


@dataclass
class Metered:
    """A service, and what it tells over HTTP."""

    service: Service
    peer: Peer
    is_ending: bool = False

    async def get(self, path: str = "/metrics") -> Answer:
        return await self.peer.ask(f"GET {path} HTTP/1.1")

    async def lines(self) -> list[str]:
        answer = await self.get()
        assert (answer.status, answer.headers["content-type"]) == (200, CONTENT_TYPE)
        return answer.body.decode().splitlines()


@asynccontextmanager
async def metered(*, recovers: bool = True) -> AsyncIterator[Metered]:
    address = Address.parse("127.0.0.1:0")
    metering = Metering(address, FakeClock(), lambda _model: False, admission())
    async with serving(
        recovers=recovers, counts=metering.calls, observers=[metering.observe]
    ) as service:
        bound = await metering.start(
            pool=service.pool,
            guard_alive=lambda: True,
            log_lines_dropped=lambda: 3,
            is_ending=lambda: told.is_ending,
        )
        host, _, port = bound.rpartition(":")
        told = Metered(service, Peer(*await asyncio.open_connection(host, int(port))))
        try:
            yield told
        finally:
            told.peer.close()
            await told.peer.writer.wait_closed()
            await metering.stop()
            if not recovers:
                await service.pool.recover(1.0)


async def test_what_happened_is_shown() -> None:
    async with metered() as told:
        told.service.world.script("warm", Script(load=0.0, from_standby=True))
        await told.service.ensure("warm")
        lines = await told.lines()
    for line in (
        'pool_service_server_state{model="warm",state="READY"} 1',
        'pool_service_starts_total{model="warm",origin="standby",result="ready"} 1',
        'pool_service_rpcs_total{method="Ensure",code="OK"} 1',
        "pool_service_log_lines_dropped_total 3",
        "pool_service_guard_alive 1",
    ):
        assert line in lines


async def test_looking_is_no_use_and_starts_nothing() -> None:
    async with metered() as told:
        await told.service.ensure("m")
        pool, world = told.service.pool, told.service.world
        before, calls, revision = pool.page(None, 9), len(world.calls), pool.history.revision
        for path in ("/metrics", "/healthz", "/metrics?model=other", "/m", "/v1/models"):
            await told.get(path)
        assert pool.page(None, 9) == before
        assert pool.history.revision == revision
        assert len(world.calls) == calls, "no port of the pool was used"


async def test_a_service_that_recovers_is_not_healthy_and_shows_no_servers() -> None:
    async with metered(recovers=False) as told:
        answer = await told.get("/healthz")
        assert answer.status == 503
        assert b"has just started" in answer.body
        assert "pool_service_queued_models 0" in await told.lines()


async def test_a_service_is_healthy_until_it_shuts_down() -> None:
    async with metered() as told:
        answer = await told.get("/healthz")
        assert (answer.status, answer.body) == (200, b"ok\n")
        told.is_ending = True
        answer = await told.get("/healthz")
        assert (answer.status, answer.body) == (503, b"the service is shutting down\n")


async def test_calls_are_answered_between_the_pieces_of_a_scrape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns: list[str] = []

    def pieces(_view: object) -> list[str]:
        return ["a\n", "", "b\n"]

    monkeypatch.setattr("pool_service.metering.pieces", pieces)
    async with metered() as told:
        scrape = asyncio.create_task(told.get())
        loop = asyncio.get_running_loop()

        def note() -> None:
            turns.append("turn")
            if not scrape.done():
                loop.call_soon(note)

        note()
        assert (await scrape).body == b"a\nb\n"
    assert len(turns) > 3
