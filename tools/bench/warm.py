"""Measures a warm Ensure against a bare unary echo of the same messages on the same set-up."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.certificates import LOCAL, Authority, uri, written
from tools.bench.echo_server import METHOD
from tools.bench.report import Figure, Pair, compare
from tools.demo.service import running

MODEL = "bench/warm"
AIM_RATIO = 1.10
"""The most that a warm Ensure should take, as a ratio to the echo."""

AIM_RATIO_TLS = 1.15
"""The same where both speak TLS, and the caller is one of several clients."""

CALLS = 1000
"""Calls of one sample: half a second, in which the clock and the scheduler do not show."""

WARM_UP_CALLS = 500
"""Calls by a connection before its sample, after which times no longer fall."""

SAN = "spiffe://bench/engine"
EVERYWHERE = "0.0.0.0:0"

TLS_CONFIG = """
[tls]
cert = '{tls}/service.pem'
key = '{tls}/service.key'
client_ca = '{tls}/ca.pem'
[clients.engine]
san = "{san}"
scope = "use"
[models."{model}"]
runtime_model = "{model}"
"""
"""The caller is an engine that may use what is listed, and is known by its certificate."""

Call = Callable[[pb.EnsureRequest], Awaitable[pb.EnsureResponse]]
Connect = Callable[[], grpc.aio.Channel]

_OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1)]
"""Without this, channels to the same address share a connection."""


def measure(directory: Path, fake: Path, rounds: int) -> list[Figure]:
    """Measure the ratios, alone and 64 at a time: by TCP, by a unix socket, and by TCP with TLS.

    With TLS both sides show certificates. Adds what it needs to the configuration `fake`.
    """
    tls = directory / "tls"
    _write_certificates(tls)
    with fake.open("a") as file:
        file.write(TLS_CONFIG.format(tls=tls, san=SAN, model=MODEL))
    listen = ("127.0.0.1:0", f"unix:{directory}/s", EVERYWHERE)
    with running(directory / "warm", listen, ["--config", str(fake)]) as service:
        return asyncio.run(_measure(directory, tls, service.addresses, rounds))


def _write_certificates(directory: Path) -> None:
    """Write the certificates of the service and of the caller, and that of their authority."""
    directory.mkdir(mode=0o700)
    authority = Authority("bench")
    written(directory / "ca.pem", authority.certificate)
    authority.issue(*LOCAL).write(directory, "service")
    authority.issue(uri(SAN)).write(directory, "caller")


async def _measure(
    directory: Path, tls: Path, addresses: tuple[str, ...], rounds: int
) -> list[Figure]:
    async with grpc.aio.insecure_channel(addresses[0]) as channel:
        answer = await pb_grpc.PoolServiceStub(channel).Ensure(pb.EnsureRequest(model=MODEL))
    answer.started = False
    message = directory / "answer"
    message.write_bytes(answer.SerializeToString())
    async with _echo(message, f"unix:{directory}/e", tls) as echo_addresses:
        figures = []
        kinds = (("TCP", None, AIM_RATIO), ("unix", None, AIM_RATIO), ("TLS", tls, AIM_RATIO_TLS))
        for (kind, certificates, aim), *pair in zip(kinds, addresses, echo_addresses, strict=True):
            ensure, echo = (partial(_channel, address, certificates) for address in pair)
            figures += await _compare(kind, ensure, echo, rounds, aim)
        return figures


def _channel(address: str, certificates: Path | None) -> grpc.aio.Channel:
    if certificates is None:
        return grpc.aio.insecure_channel(address, _OF_ITS_OWN)
    names = ("ca.pem", "caller.key", "caller.pem")
    credentials = grpc.ssl_channel_credentials(
        *((certificates / one).read_bytes() for one in names)
    )
    target = f"localhost:{address.rpartition(':')[2]}"
    return grpc.aio.secure_channel(target, credentials, _OF_ITS_OWN)


async def _compare(
    kind: str, ensure: Connect, echo: Connect, rounds: int, aim: float
) -> list[Figure]:
    figures = []
    for at_a_time in (1, 64):
        pairs = await _pairs(ensure, echo, at_a_time, rounds)
        name = f"warm Ensure, {kind}, {at_a_time} at a time"
        against = f"bare unary echo{' with TLS' if kind == 'TLS' else ''} (time per call)"
        figures.append(compare("warm", name, against, pairs, aim=aim))
    return figures


async def _pairs(ensure: Connect, echo: Connect, at_a_time: int, rounds: int) -> list[Pair]:
    """Measure pairs, each by connections of its own: two to the same server differ by 3 to 6 %."""
    pairs = []
    for turn in range(rounds):
        async with ensure() as ensure_channel, echo() as echo_channel:
            calls: tuple[Call, Call] = _ensure_by(ensure_channel), _echo_by(echo_channel)
            for call in calls:
                await _ms_per_call(call, at_a_time, WARM_UP_CALLS)
            # Who goes first changes, so that neither always finds the machine as the other left it.
            order = calls if turn % 2 else calls[::-1]
            times = {call: await _ms_per_call(call, at_a_time, CALLS) for call in order}
            pairs.append((times[calls[0]], times[calls[1]]))
    return pairs


def _ensure_by(channel: grpc.aio.Channel) -> Call:
    call: Call = pb_grpc.PoolServiceStub(channel).Ensure
    return call


def _echo_by(channel: grpc.aio.Channel) -> Call:
    call: Call = channel.unary_unary(
        METHOD,
        request_serializer=pb.EnsureRequest.SerializeToString,
        response_deserializer=pb.EnsureResponse.FromString,
    )
    return call


async def _ms_per_call(call: Call, at_a_time: int, calls: int) -> float:
    """Return the milliseconds per call, over `calls` calls by `at_a_time` callers."""
    request = pb.EnsureRequest(model=MODEL)

    async def caller() -> None:
        for _ in range(calls // at_a_time):
            await call(request)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(at_a_time)))
    return (time.perf_counter() - began) * 1e3 / (calls // at_a_time * at_a_time)


@asynccontextmanager
async def _echo(message: Path, unix: str, tls: Path) -> AsyncIterator[list[str]]:
    """Run the echo; give its addresses by TCP, by a unix socket, and with TLS."""
    module = "tools.bench.echo_server"
    addresses = ("127.0.0.1:0", unix)
    command = [
        sys.executable,
        "-m",
        module,
        *addresses,
        "--answer",
        str(message),
        "--tls",
        str(tls),
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        lines = [(await process.stdout.readline()).decode() for _ in range(3)]
        yield [line.removeprefix("listening on ").strip() for line in lines]
    finally:
        process.kill()
        await process.wait()
