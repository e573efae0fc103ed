"""What calls, events, streams and idleness cost one service, by how much it has to look after.

Mostly in seconds of processor that the service's process used, which other programs on the
machine disturb less than the time on a clock. What is run beside it by turns: a service with
FEW servers, `python -c pass`, `python -c 'import grpc'`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import psutil

from pool_service.adapters.memory.footprint import of_process
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.bench.report import Figure, compare
from tools.demo.service import RunningService, command, running

if TYPE_CHECKING:
    from pool_service.v1.pool_service_pb2_grpc import PoolServiceAsyncStub as Stub

FEW = 5
COUNTS = (50, 500)
STREAMS = (100, 1000)
HERDS = (1000, 10_000)
ROUNDS = 7
CALLS = 200
IDLE_SECONDS = 30.0
_SCHED_CLOCK = 2
"""The kind of a process's clock that counts what its threads have run (CPUCLOCK_SCHED)."""

SETTLING = 5.0
"""Seconds after the last start, so that what it leaves to do is done."""

SMALL = 80e6 / 2**20
"""MiB that a service without servers should stay under."""

PAGE = 5
START_TIMEOUT = 600.0

CONFIG = """
[service]
max_starts = 16
standby = 0
[memory]
budget = "none"
reserve = 0
queue_limit = 1000
queue_timeout = "1h"
[runtime]
command = [{python!r}, "-S", "-E", {server!r}, "{{port}}"]
kind = "plain"
[defaults]
keep_alive = "forever"
grace_period = 0
"""
MODEL = "[models.{name}]\nexpected_memory = '16 MiB'\n"

Act = Callable[["Stub"], Awaitable[int]]
"""Does something with a service, and returns how many times."""


def measure(directory: Path, rounds: int = ROUNDS) -> list[Figure]:
    """All of it."""
    config = directory / "size.toml"
    config.write_text(config_of(max(COUNTS)))
    figures = [one for count in (FEW, max(COUNTS)) for one in _start(directory, count, rounds)]
    figures.append(_list_command(directory, config, rounds))
    with _pool(directory, config, FEW) as few:
        for count in COUNTS:
            with _pool(directory, config, count) as many:
                figures += asyncio.run(_by_servers(few, many, rounds))
                figures += [_idle(few, many), _memory(few, many)]
        figures += asyncio.run(_by_streams(few, rounds))
        figures += asyncio.run(_by_herd(few, rounds))
    return figures


def config_of(count: int) -> str:
    """The configuration of a pool with room for so many of the least servers."""
    server = str(Path(__file__).with_name("least_server.py"))
    names = [*(f"m{number}" for number in range(count)), "other"]
    models = "".join(MODEL.format(name=name) for name in names)
    return CONFIG.format(python=sys.executable, server=server) + models


# --- services --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pool:
    """A service with so many READY servers; upkeep: its share of a processor while idle."""

    service: RunningService
    servers: int
    upkeep: float = 0.0

    @property
    def cpu(self) -> float:
        """Milliseconds of processor that its process has used so far."""
        return cpu_of(self.service.process.pid)

    @property
    def resident(self) -> float:
        """MiB of its process, without its servers."""
        return resident_of(self.service.process.pid)


def resident_of(pid: int) -> float:
    """MiB of one process."""
    return psutil.Process(pid).memory_info().rss / 2**20


def footprint_of(pid: int) -> float:
    """Return the MiB of one process as a service counts those of its servers."""
    return of_process(pid) / 2**20


def cpu_of(pid: int) -> float:
    """Return the milliseconds of processor that a process has used, with threads that have ended.

    On Linux by its clock, to the nanosecond: the usual counters go by the hundredth of a second.
    """
    if Path(f"/proc/{pid}").exists():
        # The macro MAKE_PROCESS_CPUCLOCK of the kernel's posix-timers.h.
        return time.clock_gettime((~pid << 3) | _SCHED_CLOCK) * 1e3
    times = psutil.Process(pid).cpu_times()
    return (times.user + times.system) * 1e3


@contextmanager
def _pool(directory: Path, config: Path, servers: int) -> Iterator[Pool]:
    arguments = ["--config", str(config)]
    with running(directory / f"size-{servers}", arguments=arguments) as service:
        asyncio.run(fill(service.address, servers))
        time.sleep(SETTLING)
        pool = Pool(service, servers)
        yield replace(pool, upkeep=idle_share(pool))


def idle_share(pool: Pool) -> float:
    """The share of a processor that a service uses while nobody calls, over IDLE_SECONDS."""
    before, began = pool.cpu, time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (pool.cpu - before) / 1e3 / (time.monotonic() - began)


async def fill(address: str, servers: int) -> None:
    """Make so many servers READY."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Stub = pb_grpc.PoolServiceStub(channel)
        requests = [pb.EnsureRequest(model=f"m{number}") for number in range(servers)]
        await asyncio.gather(*(stub.Ensure(one, timeout=START_TIMEOUT) for one in requests))


async def _cost(pool: Pool, act: Act) -> float:
    """Milliseconds of processor for one of what `act` does, beside what it uses while idle."""
    async with grpc.aio.insecure_channel(pool.service.address) as channel:
        stub: Stub = pb_grpc.PoolServiceStub(channel)
        await stub.List(pb.ListRequest(page_size=1))
        before, began = pool.cpu, time.monotonic()
        times = await act(stub)
        upkeep = (time.monotonic() - began) * 1e3 * pool.upkeep
        return (pool.cpu - before - upkeep) / times


async def _in_turn(
    rounds: int, measured: Callable[[], Awaitable[float]], baseline: Callable[[], Awaitable[float]]
) -> list[tuple[float, float]]:
    """Pairs; who goes first changes. One round before is not counted."""
    pairs = []
    for turn in range(-1, rounds):
        if turn % 2:
            found = (await measured(), await baseline())
        else:
            second = await baseline()
            found = (await measured(), second)
        pairs.append(found)
    return pairs[1:]


# --- by the number of servers ---------------------------------------------------------------


async def _ensure(stub: Stub) -> int:
    for _ in range(CALLS):
        await stub.Ensure(pb.EnsureRequest(model="m0"))
    return CALLS


async def _page(stub: Stub) -> int:
    for _ in range(CALLS):
        assert len((await stub.List(pb.ListRequest(page_size=PAGE))).servers) == PAGE
    return CALLS


async def _start_and_evict(stub: Stub) -> int:
    for _ in range(PAGE):
        await stub.Ensure(pb.EnsureRequest(model="other"), timeout=START_TIMEOUT)
        await stub.Evict(pb.EvictRequest(model="other", force=True))
    return PAGE


async def _death(stub: Stub) -> int:
    """It is killed, seen dead by a watch, and started again."""
    for _ in range(PAGE):
        pid = (await stub.Ensure(pb.EnsureRequest(model="m1"))).server.pid
        after = (await stub.List(pb.ListRequest(page_size=1))).revision
        changes = stub.Watch(pb.WatchRequest(after_revision=after))
        os.kill(pid, signal.SIGKILL)
        async for change in changes:
            if change.server.state == pb.SERVER_STATE_FAILED:
                break
        changes.cancel()
        await stub.Evict(pb.EvictRequest(model="m1"))
        await stub.Ensure(pb.EnsureRequest(model="m1"), timeout=START_TIMEOUT)
    return PAGE


BY_SERVERS: tuple[tuple[str, Act], ...] = (
    ("a warm Ensure", _ensure),
    (f"a page of {PAGE} servers", _page),
    ("a start and an Evict", _start_and_evict),
    ("the death of a server, and its restart", _death),
)


async def _by_servers(few: Pool, many: Pool, rounds: int) -> list[Figure]:
    figures = []
    for name, act in BY_SERVERS:
        pairs = await _in_turn(rounds, lambda: _cost(many, act), lambda: _cost(few, act))  # noqa: B023  # at once
        title = f"processor time of {name}, {many.servers} servers"
        figures.append(compare("size", title, f"the same, {few.servers} servers", pairs, aim=1.25))
    return figures


def _idle(few: Pool, many: Pool) -> Figure:
    name = f"processor share while idle, {many.servers} servers"
    pairs = [(many.upkeep * 100, few.upkeep * 100)]
    return compare("size", name, f"{few.servers} servers", pairs, unit="%", aim_itself=1.0)


def _memory(few: Pool, many: Pool) -> Figure:
    name = f"resident memory, {many.servers} servers"
    pairs = [(many.resident, few.resident)]
    return compare("size", name, f"{few.servers} servers", pairs, unit="MiB", aim_itself=200)


# --- by the number of streams and waiters -----------------------------------------------------


async def _by_streams(pool: Pool, rounds: int) -> list[Figure]:
    figures = []
    for count in STREAMS:
        for kind in ("Watch", "Hold"):
            at_rest = pool.resident
            pairs = [
                (await _per_stream(pool, kind, count), await _per_stream(pool, kind, 1))
                for _ in range(rounds)
            ]
            name = f"processor time of a stream of {kind}, {count} at a time"
            figures.append(compare("size", name, "one alone", pairs, aim=1.25))
            held = [(pool.resident, at_rest)]
            name = f"resident memory after {count} streams of {kind}"
            figures.append(compare("size", name, "before them", held, unit="MiB"))
    return figures


async def _per_stream(pool: Pool, kind: str, count: int) -> float:
    """Milliseconds for each of streams that are open together, from its beginning to its end.

    While all are open one server changes, which each of them is told.
    """
    repeats = max(CALLS // count, 1)
    async with grpc.aio.insecure_channel(pool.service.address) as channel:
        stub: Stub = pb_grpc.PoolServiceStub(channel)
        await stub.Ensure(pb.EnsureRequest(model="m0"))
        before = pool.cpu
        for _ in range(repeats):
            await _streams(stub, kind, count)
        return (pool.cpu - before) / (count * repeats)


async def _streams(stub: Stub, kind: str, count: int) -> None:
    opened, told = asyncio.Semaphore(0), asyncio.Semaphore(0)
    if kind == "Hold":
        tasks = [asyncio.create_task(_hold(stub, opened)) for _ in range(count)]
    else:
        tasks = [asyncio.create_task(_watch(stub, opened, told)) for _ in range(count)]
    for _ in tasks:
        await opened.acquire()
    if kind == "Watch":
        holding = stub.Hold(pb.HoldRequest(model="m2"))
        for _ in tasks:
            await told.acquire()
        holding.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _hold(stub: Stub, opened: asyncio.Semaphore) -> None:
    async for response in stub.Hold(pb.HoldRequest(model="m0")):
        assert response.server.state == pb.SERVER_STATE_READY
        opened.release()


async def _watch(stub: Stub, opened: asyncio.Semaphore, told: asyncio.Semaphore) -> None:
    synced = False
    async for response in stub.Watch(pb.WatchRequest()):
        if response.HasField("synced"):
            synced = True
            opened.release()
        elif synced and response.server.model == "m2":
            told.release()
            return


async def _by_herd(pool: Pool, rounds: int) -> list[Figure]:
    """All ask at once for one model that is not there: one start, and an answer for each."""
    figures = []
    for count in HERDS:
        small = min(HERDS) // 10
        pairs = [(await _herd(pool, count), await _herd(pool, small)) for _ in range(rounds)]
        name = f"processor time of an Ensure, {count} at once for one start"
        figures.append(compare("size", name, f"{small} at once", pairs, aim=1.25))
    return figures


async def _herd(pool: Pool, count: int) -> float:
    async def ask(stub: Stub) -> int:
        request = pb.EnsureRequest(model="other")
        calls = [stub.Ensure(request, timeout=START_TIMEOUT) for _ in range(count)]
        answers = await asyncio.gather(*calls)
        assert sum(answer.started for answer in answers) == 1
        return count

    cost = await _cost(pool, ask)
    async with grpc.aio.insecure_channel(pool.service.address) as channel:
        stub: Stub = pb_grpc.PoolServiceStub(channel)
        await stub.Evict(pb.EvictRequest(model="other", force=True))
    return cost


# --- whole processes --------------------------------------------------------------------------


def _start(directory: Path, models: int, rounds: int) -> list[Figure]:
    """How long a start takes, and how large the service is then."""
    config = directory / f"start-{models}.toml"
    config.write_text(config_of(models))
    arguments, baseline = ["--config", str(config)], "python -c 'import grpc'"
    times, sizes = [], []
    for turn in range(-1, rounds):
        began = time.monotonic()
        with running(directory / f"start-{models}-{turn}", arguments=arguments) as service:
            serving = (time.monotonic() - began) * 1e3
            resident = resident_of(service.process.pid)
        times.append((serving, _whole(sys.executable, "-c", "import grpc")))
        sizes.append((resident, _resident_importing_grpc()))
    of = f"a catalogue of {models} models"
    name = f"start of the service until it is SERVING, {of}"
    taken = f"resident memory of a service that has started, {of}"
    return [
        compare("size", name, baseline, times[1:], aim_itself=500),
        compare("size", taken, baseline, sizes[1:], unit="MiB", aim_itself=SMALL),
    ]


def _resident_importing_grpc() -> float:
    program = [sys.executable, "-c", "import grpc; print(flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        resident = resident_of(process.pid)
        process.kill()
        return resident


def _list_command(directory: Path, config: Path, rounds: int) -> Figure:
    arguments = ["--config", str(config)]
    with running(directory / "list", arguments=arguments) as service:
        listing = command("--address", service.address, "list")
        pairs = [
            (_whole(*listing), _whole(sys.executable, "-c", "import grpc"))
            for _ in range(-1, rounds)
        ]
    name = "pool-service list, the whole process"
    return compare("size", name, "python -c 'import grpc'", pairs[1:], aim_itself=300)


def _whole(*arguments: str) -> float:
    """Milliseconds from its start to its end."""
    began = time.monotonic()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) * 1e3
