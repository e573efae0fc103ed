"""Claims about when gRPC is stopped, which ends what is on its way without a word; virtual time.

The pool refuses what is new by then. So whoever is on the way is waited for, to be told why.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pool_service.access.authentication import Kind, ListenAddress
from pool_service.access.principal import LOCAL
from pool_service.audit import Audit
from pool_service.core.call_error_texts import shutting_down
from pool_service.event_records import Call
from pool_service.rpc import last_calls
from pool_service.rpc.server import GrpcServer
from pool_service.rpc.servicer import PoolServicer
from tests.access.letting_in import admission
from tests.fake_events import FakeEvents
from tests.rpc.bare import server_of

pytestmark = pytest.mark.looptime

TICK = 1 / 64
"""Seconds, of which sums are exact, so that no rest of a pause is too short to pass."""

ARRIVAL, LULL, LONGEST_LULL = 2 * TICK, 4 * TICK, 20 * TICK
GRACE = 5.0


class Grpc:
    """In the place of the gRPC server: when it was stopped, and with which grace."""

    def __init__(self) -> None:
        self.stops: list[tuple[float, float]] = []

    async def stop(self, grace: float) -> None:
        self.stops.append((now(), grace))


def now() -> float:
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def refusing(
    monkeypatch: pytest.MonkeyPatch, *times: float
) -> AsyncIterator[tuple[GrpcServer, Grpc]]:
    """A server whose pool refuses a call at each of these times."""
    for name, seconds in (
        ("ARRIVAL_S", ARRIVAL),
        ("LULL_S", LULL),
        ("MAX_WAIT_S", LONGEST_LULL),
    ):
        monkeypatch.setattr(last_calls, name, seconds)
    grpc = Grpc()
    monkeypatch.setattr(GrpcServer, "_new_server", lambda *_: grpc)
    nothing: Any = None
    servicer = PoolServicer(nothing, nothing, nothing, Audit(FakeEvents()), nothing)
    loop = asyncio.get_running_loop()
    call = Call("Ensure", "m", "unix:")
    calls = [
        loop.call_later(after, servicer.refuse, shutting_down("m"), call, LOCAL) for after in times
    ]
    server = server_of(servicer, admission())
    # As if it listened at one address.
    server._servers.append(server._new_server(ListenAddress(Kind.SOCKET, "unix:")))
    yield server, grpc
    for each in calls:
        each.cancel()


@pytest.mark.parametrize(
    ("refused", "stopped"),
    [
        ((), ARRIVAL),
        ((TICK,), TICK + LULL),
        ((TICK, 4 * TICK, 7 * TICK), 7 * TICK + LULL),
        ((TICK, 7 * TICK), TICK + LULL),
        ((3 * TICK,), ARRIVAL),
    ],
    ids=["nobody", "one", "several", "one late", "one very late"],
)
async def test_calls_on_their_way_get_the_reason_before_grpc_is_stopped(
    refused: tuple[float, ...], stopped: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with refusing(monkeypatch, *refused) as (server, grpc):
        await server.stop(GRACE)
        assert grpc.stops == [(stopped, GRACE)]


async def test_calls_that_come_without_end_are_waited_for_so_long_and_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = [number * TICK for number in range(1000)]
    async with refusing(monkeypatch, *times) as (server, grpc):
        await server.stop(GRACE)
        ((stopped, _),) = grpc.stops
        assert LONGEST_LULL <= stopped <= LONGEST_LULL + LULL


async def test_one_that_stops_without_grace_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with refusing(monkeypatch, 0.0, TICK) as (server, grpc):
        await server.stop(0)
        assert grpc.stops == [(0.0, 0)]
