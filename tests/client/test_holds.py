"""Holds of both clients, over streams that a script plays."""

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from pool_service_client import (
    Cancelled,
    DeadlineExceeded,
    Evicted,
    PoolClient,
    PoolError,
    PoolUnavailable,
    RetryPolicy,
    ServerState,
    aio,
    aio_streams,
    streams,
    sync,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client, Connect
from tests.client.scripted import (
    Gate,
    Refusal,
    Script,
    Stay,
    Step,
    held,
    ready,
    retry_after,
    starting,
)
from tests.signals import signal_taken_by_another_thread

GONE = Refusal(StatusCode.ABORTED, "evicted", "EVICTED")
ENDING = Refusal(StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN", (retry_after(0.01),))
MOVED = held(endpoint="http://127.0.0.1:2", generation=2)
GONE_BY_NOW = pb.GetResponse()
"""What the service tells of a server that has ended."""

LONG_S = 60.0
"""Longer than any test waits for anything."""


async def test_a_hold_asks_for_all_that_was_said(client: Client, service: Script) -> None:
    service.answer("Hold", held(), Stay())
    said = {"runtime_model": "r", "keep_alive": 90, "download": False, "holder": "me"}
    async with client.hold("m", **said) as hold:
        await hold.ready()
    assert service.asked["Hold"] == [
        pb.HoldRequest(
            model="m",
            runtime_model="r",
            keep_alive=Duration(seconds=90),
            download=False,
            holder="me",
        )
    ]


async def test_what_was_not_said_is_absent(client: Client, service: Script) -> None:
    service.answer("Hold", held(), Stay())
    async with client.hold("m") as hold:
        await hold.ready()
    assert service.asked["Hold"] == [pb.HoldRequest(model="m")]


async def test_ready_waits_until_it_is(client: Client, service: Script) -> None:
    service.answer("Hold", starting(progress=0.5), held(), Stay())
    async with client.hold("m") as hold:
        server = await hold.ready()
        assert server.endpoint == "http://127.0.0.1:49321"
        assert await hold.ready(timeout=0) == server


async def test_ready_after_a_server_waits_for_the_next_and_costs_no_call(
    client: Client, service: Script
) -> None:
    died = Gate()
    service.answer("Hold", held(), died, starting(generation=2), MOVED, Stay())
    service.answer("Get", GONE_BY_NOW)
    async with client.hold("m") as hold:
        dead = await hold.ready()
        with pytest.raises(DeadlineExceeded, match=r"than generation 1 was READY within 0\.01 s"):
            await hold.ready(timeout=0.01, after=dead)
        waiting = asyncio.create_task(hold.ready(after=dead))
        died.open()
        assert (await waiting).endpoint == "http://127.0.0.1:2"
        asked = len(service.asked["Get"])
        assert await hold.ready(after=dead) == await hold.ready()
        assert len(service.asked["Get"]) == asked, "another process needs no question"
    assert len(service.asked["Hold"]) == 1


@pytest.fixture
def grace(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the grace of a server that is taken for dead, in seconds."""

    def of(seconds: float) -> None:
        for module in (streams, aio_streams, sync, aio):
            monkeypatch.setattr(module, "GRACE_S", seconds)

    return of


async def test_a_server_that_answers_is_handed_out_again_without_waiting_for_the_grace(
    client: Client, service: Script, grace: Callable[[float], None]
) -> None:
    grace(LONG_S)
    service.answer("Hold", pb.HoldResponse(server=ready(), api_key="k"), Stay())
    service.answer("Get", pb.GetResponse(server=ready(), answers=True))
    async with client.hold("m") as hold:
        server = await hold.ready()
        again = await hold.ready(after=server)
        assert (again, again.api_key) == (server, "k"), "with its key, which Get does not tell"
    assert service.asked["Get"] == [pb.GetRequest(model="m", check=True)]


async def test_the_service_is_asked_by_the_models_own_name(
    client: Client, service: Script, grace: Callable[[float], None]
) -> None:
    grace(LONG_S)
    service.answer("Hold", held(), Stay())
    service.answer("Get", pb.GetResponse(server=ready(), answers=True))
    async with client.hold("alias") as hold:
        await hold.ready(after=await hold.ready())
    assert service.asked["Get"] == [pb.GetRequest(model="m", check=True)]


async def test_ready_after_a_server_tells_that_the_client_was_closed(
    client: Client, service: Script
) -> None:
    service.answer("Hold", held(), Stay())
    service.answer("Get", pb.GetResponse())
    async with client.hold("m") as hold:
        server = await hold.ready()
        await client.close()
        with pytest.raises(PoolError):
            await hold.ready(timeout=LONG_S, after=server)


@pytest.mark.parametrize(
    "told",
    [
        Refusal(StatusCode.UNAVAILABLE, "it is away"),
        pb.GetResponse(server=ready(), answers=False),
        Stay(),
    ],
    ids=["the service is away", "it does not answer", "the service is slow"],
)
async def test_a_server_of_which_nobody_tells_the_end_is_handed_out_again_after_the_grace(
    client: Client, service: Script, grace: Callable[[float], None], told: Step
) -> None:
    grace(0.2)
    service.answer("Hold", held(), Stay())
    service.answer("Get", told)
    async with client.hold("m") as hold:
        server = await hold.ready()
        began = time.monotonic()
        assert await hold.ready(after=server) == server
        assert time.monotonic() - began >= 0.2


async def test_a_server_that_is_gone_is_not_handed_out_again_however_long_it_takes(
    client: Client, service: Script, grace: Callable[[float], None]
) -> None:
    grace(0.01)
    died = Gate()
    service.answer("Hold", held(), died, MOVED, Stay())
    service.answer("Get", GONE_BY_NOW)
    async with client.hold("m") as hold:
        server = await hold.ready()
        with pytest.raises(DeadlineExceeded):
            await hold.ready(timeout=0.5, after=server)
        waiting = asyncio.create_task(hold.ready(after=server))
        died.open()
        assert (await waiting).generation == 2


async def test_a_wait_that_is_shorter_than_the_grace_ends_in_time(
    client: Client, service: Script, grace: Callable[[float], None]
) -> None:
    grace(LONG_S)
    service.answer("Hold", held(), Stay())
    service.answer("Get", pb.GetResponse(server=ready(), answers=False))
    async with client.hold("m") as hold:
        with pytest.raises(DeadlineExceeded):
            await hold.ready(timeout=0.1, after=await hold.ready())


async def test_the_question_ends_with_the_wait(
    client: Client, service: Script, grace: Callable[[float], None]
) -> None:
    grace(LONG_S)
    died, unanswered = Gate(), Stay()
    service.answer("Hold", held(), died, MOVED, Stay())
    service.answer("Get", unanswered)
    async with client.hold("m") as hold:
        waiting = asyncio.create_task(hold.ready(after=await hold.ready()))
        await asyncio.to_thread(unanswered.reached.wait, LONG_S)
        died.open()
        assert (await waiting).generation == 2
        assert await asyncio.to_thread(unanswered.left.wait, LONG_S)


async def test_who_waits_no_longer_still_holds(client: Client, service: Script) -> None:
    service.answer("Hold", starting(detail="loads"), Stay())
    async with client.hold("m") as hold:
        first = await hold.next()
        assert first is not None
        assert first.state is ServerState.STARTING
        with pytest.raises(DeadlineExceeded, match=r"it is STARTING \(loads\)"):
            await hold.ready(timeout=0.01)
        assert service.open["Hold"] == 1


async def test_leaving_it_closes_the_stream_at_once(client: Client, service: Script) -> None:
    service.answer("Hold", held(), Stay())
    async with client.hold("m") as hold:
        await hold.ready()
        assert service.open["Hold"] == 1
    assert await asyncio.to_thread(service.closed, "Hold")


async def test_a_hold_that_is_closed_ends_its_readers_wait(client: Client, service: Script) -> None:
    service.answer("Hold", held(), Stay())
    async with client.hold("m") as hold:
        assert await hold.next() is not None
        reader = asyncio.create_task(hold.next())
        await asyncio.sleep(0)
        hold.close()
        assert await reader is None
        with pytest.raises(Cancelled, match="was closed"):
            await hold.ready()


@pytest.mark.parametrize("broken", [(ENDING,), ()], ids=["by an error", "without a word"])
async def test_a_hold_that_nobody_reads_is_opened_again_when_it_breaks(
    client: Client, service: Script, broken: tuple[Step, ...]
) -> None:
    service.answer("Hold", held(), *broken)
    service.answer("Hold", starting(), MOVED, Stay())
    async with client.hold("m", holder="me") as hold:
        while (await hold.ready()).generation == 1:
            await hold.next()
        assert (await hold.ready()).endpoint == "http://127.0.0.1:2"
    assert service.asked["Hold"] == [pb.HoldRequest(model="m", holder="me")] * 2


async def test_what_ends_a_hold_is_raised_to_whoever_asks(client: Client, service: Script) -> None:
    service.answer("Hold", GONE)
    async with client.hold("m") as hold:
        with pytest.raises(Evicted):
            await hold.ready()
        with pytest.raises(Evicted):
            await hold.next()
    assert len(service.asked["Hold"]) == 1


async def test_a_hold_gives_up_on_a_service_that_stays_away(
    connect: Connect, service: Script
) -> None:
    service.answer("Hold", Refusal(StatusCode.UNAVAILABLE, "connection lost"))
    async with connect(service.address, RetryPolicy(patience=0.2)).hold("m") as hold:
        with pytest.raises(PoolUnavailable):
            await hold.ready()


async def test_closing_the_client_ends_its_holds(service: Script) -> None:
    service.answer("Hold", held(), Stay())
    pool = PoolClient.connect(service.address)
    with pool.hold("m") as hold:
        hold.ready()
        assert next(hold).state is ServerState.READY
        pool.close()
        with pytest.raises(Cancelled, match="its client was closed"):
            next(hold)
    assert service.closed("Hold")


def test_ctrl_c_ends_a_wait_that_the_signal_itself_did_not_wake(service: Script) -> None:
    over = Gate()
    service.answer("Hold", starting(), over, held(), Stay())
    with PoolClient.connect(service.address) as client, client.hold("m") as hold:
        late = threading.Timer(20, over.open)
        late.start()
        with pytest.raises(KeyboardInterrupt), signal_taken_by_another_thread("_wait_for"):
            hold.ready()
        late.cancel()
        with pytest.raises(DeadlineExceeded):
            hold.ready(timeout=0)
        over.open()
