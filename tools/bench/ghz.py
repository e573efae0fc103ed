"""A warm Ensure under the load of ghz, beside a bare unary echo: no Python on the calling side.

Without a client in Python on the same cores the figures are those of the service. Needs ghz,
by `make go-tools`.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.bench.echo_server import METHOD
from tools.bench.report import Figure, compare
from tools.demo.service import running

GHZ = Path(".cache/tools/bin/ghz").absolute()
MODEL = "bench/ghz"
ENSURE = "/pool_service.v1.PoolService/Ensure"
CALLS = {1: 1000, 64: 3200}
"""How many in one run, by how many are made at a time."""

AGAINST = "bare unary echo"


class GhzError(Exception):
    """ghz is not there, or its calls failed; the message says what to do, or what it told."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of ghz saw: calls a second, and milliseconds a call."""

    rate: float
    median: float
    p99: float


@dataclass(frozen=True, slots=True)
class Target:
    """What is called, and where."""

    method: str
    address: str


def measure(directory: Path, fake: Path, rounds: int = 9) -> list[Figure]:
    """Alone and 64 at a time, over TCP and over a unix socket. Raises GhzError."""
    if not GHZ.exists():
        raise GhzError("ghz is not built. Run `make go-tools`, which needs Go.")
    listen = ("127.0.0.1:0", f"unix:{directory}/s")
    with running(directory / "ghz", listen, ["--config", str(fake)]) as service:
        answer = directory / "answer"
        answer.write_bytes(_answer(service.address))
        protoset = directory / "protoset"
        protoset.write_bytes(_protoset().SerializeToString())
        with _echo(answer, f"unix:{directory}/e") as echoes:
            figures = []
            for kind, ensure, echo in zip(("TCP", "unix"), service.addresses, echoes, strict=True):
                targets = Target(ENSURE, ensure), Target(METHOD, echo)
                for at_a_time in CALLS:
                    pairs = _pairs(protoset, targets, at_a_time, rounds)
                    figures += _figures(f"{kind}, {at_a_time} at a time", pairs)
            return figures


def _figures(where: str, pairs: Sequence[tuple[Load, Load]]) -> list[Figure]:
    """Of the rates more is better, of the times less."""
    rates = [(ensure.rate, echo.rate) for ensure, echo in pairs]
    medians = [(ensure.median, echo.median) for ensure, echo in pairs]
    p99s = [(ensure.p99, echo.p99) for ensure, echo in pairs]
    name = f"warm Ensure by ghz, {where}"
    return [
        compare("ghz", f"{name}: rate", AGAINST, rates, unit="calls/s"),
        compare("ghz", f"{name}: median", AGAINST, medians),
        compare("ghz", f"{name}: 99th percentile", AGAINST, p99s),
    ]


def _pairs(
    protoset: Path, targets: tuple[Target, Target], at_a_time: int, rounds: int
) -> list[tuple[Load, Load]]:
    for target in targets:
        _load(protoset, target, at_a_time)
    pairs = []
    for turn in range(rounds):
        # Who goes first changes, so that neither always finds the machine as the other left it.
        order = targets if turn % 2 else targets[::-1]
        seen = {target: _load(protoset, target, at_a_time) for target in order}
        pairs.append((seen[targets[0]], seen[targets[1]]))
    return pairs


def _load(protoset: Path, target: Target, at_a_time: int) -> Load:
    calls = CALLS[at_a_time]
    command = [
        *(str(GHZ), "--insecure", "--format", "json", "--protoset", str(protoset)),
        *("--call", target.method.removeprefix("/"), "--data", json.dumps({"model": MODEL})),
        *("--total", str(calls), "--concurrency", str(at_a_time), target.address),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GhzError(f"ghz failed: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    codes = report["statusCodeDistribution"]
    if codes != {"OK": calls}:
        raise GhzError(f"of {calls} calls of {target.method} some failed: {codes}")
    latencies = {
        each["percentage"]: each["latency"] / 1e6 for each in report["latencyDistribution"]
    }
    return Load(report["rps"], latencies[50], latencies[99])


def _answer(address: str) -> bytes:
    """What the service answers to a warm Ensure, to be echoed."""
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        stub.Ensure(pb.EnsureRequest(model=MODEL))
        return stub.Ensure(pb.EnsureRequest(model=MODEL)).SerializeToString()


def _protoset() -> FileDescriptorSet:
    """Both services for ghz: the echo has no reflection, and none should be asked for its own."""
    echo = FileDescriptorProto(
        name="echo.proto", package="bench", syntax="proto3", dependency=[pb.DESCRIPTOR.name]
    )
    method = echo.service.add(name="Echo").method.add(name="Echo")
    method.input_type = f".{pb.EnsureRequest.DESCRIPTOR.full_name}"
    method.output_type = f".{pb.EnsureResponse.DESCRIPTOR.full_name}"
    files = FileDescriptorSet()
    for file in (*pb.DESCRIPTOR.dependencies, pb.DESCRIPTOR):
        file.CopyToProto(files.file.add())
    files.file.append(echo)
    return files


@contextmanager
def _echo(answer: Path, unix: str) -> Iterator[list[str]]:
    """The addresses of a bare echo."""
    command = [sys.executable, "-m", "tools.bench.echo_server", "127.0.0.1:0", unix]
    command += ["--answer", str(answer)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in range(2)]
            yield [line.removeprefix("listening on ").strip() for line in lines]
        finally:
            process.kill()
