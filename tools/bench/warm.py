"""A warm Ensure against a bare unary echo of the same messages on the same set-up."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.bench.echo_server import METHOD
from tools.bench.report import Figure, Pair, compare
from tools.demo.service import running

MODEL = "bench/warm"
AIM = 1.10
CALLS = 1000
WARM_UP = 500

Call = Callable[[pb.EnsureRequest], Awaitable[pb.EnsureResponse]]


def measure(directory: Path, fake: Path, rounds: int) -> list[Figure]:
    """The ratios alone and at 64 at a time, over TCP and over a unix socket."""
    listen = ("127.0.0.1:0", f"unix:{directory}/s")
    with running(directory / "warm", listen, ["--config", str(fake)]) as service:
        return asyncio.run(_measure(directory, service.addresses, rounds))


async def _measure(directory: Path, addresses: tuple[str, ...], rounds: int) -> list[Figure]:
    async with grpc.aio.insecure_channel(addresses[0]) as channel:
        answer = await pb_grpc.PoolServiceStub(channel).Ensure(pb.EnsureRequest(model=MODEL))
    answer.started = False
    message = directory / "answer"
    message.write_bytes(answer.SerializeToString())
    async with _echo(message, f"unix:{directory}/e") as echo_addresses:
        figures = []
        for kind, ensure, echo in zip(("TCP", "unix"), addresses, echo_addresses, strict=True):
            figures += await _compare(kind, ensure, echo, rounds)
        return figures


async def _compare(kind: str, ensure_address: str, echo_address: str, rounds: int) -> list[Figure]:
    async with (
        grpc.aio.insecure_channel(ensure_address) as ensure_channel,
        grpc.aio.insecure_channel(echo_address) as echo_channel,
    ):
        ensure: Call = pb_grpc.PoolServiceStub(ensure_channel).Ensure
        echo: Call = echo_channel.unary_unary(
            METHOD,
            request_serializer=pb.EnsureRequest.SerializeToString,
            response_deserializer=pb.EnsureResponse.FromString,
        )
        figures = []
        for at_a_time in (1, 64):
            pairs = await _pairs(ensure, echo, at_a_time, rounds)
            name = f"warm Ensure, {kind}, {at_a_time} at a time"
            against = "bare unary echo (time per call)"
            figures.append(compare("warm", name, against, pairs, aim=AIM))
        return figures


async def _pairs(ensure: Call, echo: Call, at_a_time: int, rounds: int) -> list[Pair]:
    for call in (ensure, echo):
        await _per_call(call, at_a_time, WARM_UP)
    pairs = []
    for turn in range(rounds):
        # Who goes first changes, so that neither always finds the machine as the other left it.
        order = (ensure, echo) if turn % 2 else (echo, ensure)
        times = {call: await _per_call(call, at_a_time, CALLS) for call in order}
        pairs.append((times[ensure], times[echo]))
    return pairs


async def _per_call(call: Call, at_a_time: int, calls: int) -> float:
    """Milliseconds a call, over `calls` calls by `at_a_time` callers."""
    request = pb.EnsureRequest(model=MODEL)

    async def caller() -> None:
        for _ in range(calls // at_a_time):
            await call(request)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_a_time)))
    return (time.perf_counter() - began) * 1e3 / (calls // at_a_time * at_a_time)


@asynccontextmanager
async def _echo(message: Path, unix: str) -> AsyncIterator[list[str]]:
    command: list[Any] = [
        sys.executable,
        "-m",
        "tools.bench.echo_server",
        message,
        "127.0.0.1:0",
        unix,
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        yield [line.removeprefix("listening on ").strip() for line in lines]
    finally:
        process.kill()
        await process.wait()
