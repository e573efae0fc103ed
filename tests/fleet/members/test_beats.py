"""Claims about the beats of a front: when they are sent, and what the network carries for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import grpc
import pytest

from pool_service.fleet.core import events as ev
from pool_service.fleet.members.beat_times import TOGETHER, Places, next_beat
from pool_service.fleet.members.link import GrpcLink, Manner
from pool_service.rpc.server import OPTIONS
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc

LIMIT_S = 60.0
BEAT_S = 0.05
BEATS = 20

PING = 6
"""The type of a frame of HTTP/2."""

HEAD_BYTES = 9
PREFACE_BYTES = 24

Context = grpc.aio.ServicerContext[Any, Any]


# --- when they are sent -------------------------------------------------------------------------


@pytest.mark.parametrize("beat_s", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("place", [0, 1, 15, 16, 40, 999])
def test_a_beat_is_never_later_than_the_time_between_two(place: int, beat_s: float) -> None:
    for step in range(1000):
        now = 1_000_000 + step * beat_s / 97
        assert now <= next_beat(place, beat_s, now) <= now + beat_s + 1e-6


def test_as_many_beats_as_are_sent_at_once_are_due_at_one_time() -> None:
    times = {next_beat(place, 0.5, 77.1) for place in range(TOGETHER + 1)}
    assert len(times) == 2


def test_the_beats_of_a_thousand_members_are_spread() -> None:
    times = sorted(next_beat(place, 1.0, 77.0) for place in range(1000))
    groups = sorted(set(times))
    assert all(times.count(one) <= TOGETHER for one in groups)
    gaps = [later - earlier for earlier, later in pairwise(groups)]
    assert max(gaps) <= 2 * TOGETHER / 1000 + 1e-6


def test_a_place_is_given_to_another_link_once_its_own_is_closed() -> None:
    places = Places()
    first, second, third = (places.take() for _ in range(3))
    places.give_back(second)
    places.give_back(first)
    assert (places.take(), places.take()) == (first, second)
    assert places.take() not in (first, second, third)


async def test_members_that_were_found_at_several_times_are_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    call_at, timers = loop.call_at, asyncio.Queue[tuple[Any, float]]()

    def noting(when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:  # noqa: ANN401 - as of asyncio
        timers.put_nowait((callback, when))
        return call_at(when, callback, *args, **more)

    async def due(link: GrpcLink) -> float:
        while True:
            callback, when = await timers.get()
            if callback == link._beat.set:
                return when

    monkeypatch.setattr(loop, "call_at", noting)
    member = BeatenMember()  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), listening(member) as port:
        manner = Manner("front", lambda: 1, lambda: LIMIT_S, lambda _host, _address: None)
        async with linked(port, manner) as (first, _):
            first_due = await due(first)
            async with linked(port, manner) as (second, _):
                apart = (await due(second) - first_due) % LIMIT_S
        assert min(apart, LIMIT_S - apart) < 1e-6


# --- what the network carries for them ------------------------------------------------------------


async def test_no_pings_go_with_the_beats() -> None:
    seen: list[int] = []
    member = BeatenMember()  # type: ignore[abstract]
    async with (
        asyncio.timeout(LIMIT_S),
        listening(member) as port,
        through(port, seen.append) as between,
    ):
        manner = Manner("front", lambda: 1, lambda: BEAT_S, lambda _host, _address: None)
        async with linked(between, manner) as (_, fed):
            await told(fed)
            del seen[:]
            for _ in range(BEATS):
                await answered(fed)
        assert len(seen) > BEATS
        assert PING not in seen


class BeatenMember(pb_grpc.PoolServiceServicer, pb_grpc.FleetMemberServiceServicer):
    """A member without servers."""

    async def Beat(  # noqa: N802 - its name on the wire
        self, request: pb.BeatRequest, context: Context
    ) -> pb.BeatResponse:
        return pb.BeatResponse(host="a")

    async def List(  # noqa: N802 - its name on the wire
        self, request: pb.ListRequest, context: Context
    ) -> pb.ListResponse:
        return pb.ListResponse(revision=1)

    async def ListModels(  # noqa: N802 - its name on the wire
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        return pb.ListModelsResponse()

    async def Watch(  # noqa: N802 - its name on the wire
        self, request: pb.WatchRequest, context: Context
    ) -> AsyncIterator[pb.WatchResponse]:
        await asyncio.Event().wait()
        yield pb.WatchResponse()


@asynccontextmanager
async def listening(member: BeatenMember) -> AsyncIterator[int]:
    """Run a member with the options of a service; give its port."""
    server = grpc.aio.server(options=OPTIONS)
    pb_grpc.add_PoolServiceServicer_to_server(member, server)
    pb_grpc.add_FleetMemberServiceServicer_to_server(member, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def linked(
    port: int, manner: Manner
) -> AsyncIterator[tuple[GrpcLink, "asyncio.Queue[ev.Event]"]]:
    """A link to a member, and the events that it feeds."""
    fed: asyncio.Queue[ev.Event] = asyncio.Queue()
    link = GrpcLink("a", f"127.0.0.1:{port}", fed.put_nowait, manner)
    try:
        yield link, fed
    finally:
        link.close()


async def told(fed: "asyncio.Queue[ev.Event]") -> None:
    """Wait until a member has told its servers."""
    while not isinstance(await fed.get(), ev.MemberTold):
        pass


async def answered(fed: "asyncio.Queue[ev.Event]") -> None:
    """Wait for the answer to a beat; the member is not lost meanwhile."""
    while not isinstance(event := await fed.get(), ev.BeatAnswered):
        assert not isinstance(event, ev.SightLost)


@asynccontextmanager
async def through(port: int, see: Callable[[int], None]) -> AsyncIterator[int]:
    """Pass a connection on to a port, and see the types of its frames; give the port for that."""

    async def pass_on(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, preface: int
    ) -> None:
        writer.write(await reader.readexactly(preface))
        while True:
            head = await reader.readexactly(HEAD_BYTES)
            see(head[3])
            writer.write(head + await reader.readexactly(int.from_bytes(head[:3])))

    async def pass_both_ways(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await asyncio.gather(
                pass_on(reader, to_writer, PREFACE_BYTES), pass_on(to_reader, writer, 0)
            )
        finally:
            writer.close()
            to_writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passing.append(asyncio.create_task(pass_both_ways(reader, writer)))

    passing: list[asyncio.Task[None]] = []
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in passing:
            one.cancel()
        await asyncio.gather(*passing, return_exceptions=True)
