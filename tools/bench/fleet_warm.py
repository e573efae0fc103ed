"""A warm Ensure through a front, against the member itself and two bare echoes in a row."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.bench.echo_server import METHOD
from tools.bench.report import Figure, Pair, compare

MODEL = "bench/warm"
AIM_DIRECT = 2.3
AIM_ECHOES = 1.15
AIM_THROUGHPUT = 4.0
"""A quarter of the throughput, as time per call."""

AT_A_TIME = (1, 64)
CALLS = 500
WARM_UP_CALLS = 200

Call = Callable[[pb.EnsureRequest], Awaitable[pb.EnsureResponse]]

_OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Without this, channels to the same address share a connection."""


@dataclass(frozen=True, slots=True)
class Ways:
    """Addresses of one set-up. kind: its name. credentials: of the caller; None: without TLS."""

    kind: str
    member: str
    front: str
    echo: str
    echoes: str
    credentials: grpc.ChannelCredentials | None = None

    @asynccontextmanager
    async def calls(self) -> AsyncIterator[tuple[Call, ...]]:
        """Give ways to call: by the front, directly, directly again, by one echo and by two.

        Each has a connection of its own: two to the same server differ by 3 to 6 %.
        """
        async with AsyncExitStack() as stack:
            found = list[Call]()
            for address in (self.front, self.member, self.member, self.echo, self.echoes):
                channel = await stack.enter_async_context(self._channel(address))
                is_echo = address in (self.echo, self.echoes)
                found.append(_echo(channel) if is_echo else pb_grpc.PoolServiceStub(channel).Ensure)
            yield tuple(found)

    def _channel(self, address: str) -> grpc.aio.Channel:
        if self.credentials is None:
            return grpc.aio.insecure_channel(address, _OF_ITS_OWN)
        return grpc.aio.secure_channel(address, self.credentials, _OF_ITS_OWN)


def _echo(channel: grpc.aio.Channel) -> Call:
    call: Call = channel.unary_unary(
        METHOD,
        request_serializer=pb.EnsureRequest.SerializeToString,
        response_deserializer=pb.EnsureResponse.FromString,
    )
    return call


def measure(ways: Ways, rounds: int) -> list[Figure]:
    """Measure the time per call, by one caller and by 64."""
    return asyncio.run(_measure(ways, rounds))


async def answer_of(address: str, credentials: grpc.ChannelCredentials | None) -> bytes:
    """Start the server of MODEL at a member; return the answer of a warm Ensure there."""
    if credentials is None:
        channel = grpc.aio.insecure_channel(address)
    else:
        channel = grpc.aio.secure_channel(address, credentials)
    async with channel:
        stub = pb_grpc.PoolServiceStub(channel)
        await stub.Ensure(pb.EnsureRequest(model=MODEL))
        answer: pb.EnsureResponse = await stub.Ensure(pb.EnsureRequest(model=MODEL))
        return bytes(answer.SerializeToString())


async def _measure(ways: Ways, rounds: int) -> list[Figure]:
    figures = list[Figure]()
    for at_a_time in AT_A_TIME:
        found = list[Sequence[float]]()
        for turn in range(rounds):
            async with ways.calls() as calls:
                for call in calls:
                    await _ms_per_call(call, at_a_time, WARM_UP_CALLS)
                # Who begins changes, so that none always finds the machine as another left it.
                order = [(turn + place) % len(calls) for place in range(len(calls))]
                times = {place: await _ms_per_call(calls[place], at_a_time) for place in order}
                found.append([times[place] for place in range(len(calls))])
        figures += _figures(ways.kind, at_a_time, found)
    return figures


def _figures(kind: str, at_a_time: int, found: Sequence[Sequence[float]]) -> list[Figure]:
    front, direct, again, _echo_alone, echoes = range(5)

    def pairs(measured: int, baseline: int) -> list[Pair]:
        return [(one[measured], one[baseline]) for one in found]

    name = f"warm Ensure through a front, {kind}, {at_a_time} at a time"
    aim = AIM_DIRECT if at_a_time == 1 else AIM_THROUGHPUT
    return [
        compare("fleet", name, "the member itself (time per call)", pairs(front, direct), aim=aim),
        compare("fleet", name, "two bare echoes in a row", pairs(front, echoes), aim=AIM_ECHOES),
        compare(
            "fleet",
            f"A/A: the member itself, {kind}, {at_a_time} at a time",
            "the same once more",
            pairs(again, direct),
        ),
    ]


async def _ms_per_call(call: Call, at_a_time: int, calls: int = CALLS) -> float:
    """Return the milliseconds per call, over `calls` calls by `at_a_time` callers."""
    request = pb.EnsureRequest(model=MODEL)

    async def caller() -> None:
        for _ in range(calls // at_a_time):
            await call(request)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_a_time)))
    return (time.perf_counter() - began) * 1e3 / (calls // at_a_time * at_a_time)


def echo_command(
    *, answer: Path | None = None, forward: str = "", address: str = "", tls: Path | None = None
) -> list[str]:
    """Return the command of an echo, with TLS at an address, or without it."""
    words = ["--answer", str(answer)] if answer is not None else ["--forward", forward]
    where = [address] if tls is None else ["--tls", str(tls), "--tls-address", address]
    return [sys.executable, "-m", "tools.bench.echo_server", *words, *where]
