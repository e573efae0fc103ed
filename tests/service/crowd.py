"""Many models, memory for a few, and callers that ask at random, use their server, and retry
when they are asked to."""

import asyncio
import json
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field

from pool_service_client import (
    AsyncPoolClient,
    ExitCause,
    PoolError,
    PoolFull,
    QueueFull,
    RetryPolicy,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerState,
    Synced,
)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

NEEDS = 100_000_000
"""Bytes that each model is declared to need."""

RESIDENCY = 0.5
"""Seconds for which whoever was given a server finds it; as short as is needed for many turns."""

VACANT = {ServerState.QUEUED, ServerState.FAILED, ServerState.BACKING_OFF}


def config_of(models: int, room: int, queue: int, runtime: str) -> str:
    """A catalogue of so many models, of which `room` fit and `queue` may wait."""
    entries = "".join(
        f"[models.m{number}]\nexpected_memory = {NEEDS}\nruntime_model = 'x?tokens=2'\n"
        for number in range(models)
    )
    memory = f"[memory]\nbudget = {NEEDS * room}\nqueue_limit = {queue}\nqueue_timeout = 3600\n"
    return f"{runtime}[defaults]\ngrace_period = {RESIDENCY}\n{memory}{entries}"


@dataclass
class Crowd:
    """What the callers met."""

    waits: list[float] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    """Not answered either, but asked when the server's residency was over."""
    refusals: list[PoolError] = field(default_factory=list)
    most: int = 0
    """The most bytes that were ever reserved at a time, as the changes tell."""

    ends: Counter[ExitCause] = field(default_factory=Counter)
    """Why servers went, as the changes tell."""

    @property
    def longest_by_mean(self) -> float:
        return max(self.waits) / statistics.mean(self.waits)

    @property
    def figures(self) -> str:
        """What there is to say of it, a line each."""
        mean, longest = statistics.mean(self.waits), max(self.waits)
        untold = sum(not error.retry_after for error in self.refusals)
        ends = ", ".join(f"{cause.name} {count}" for cause, count in sorted(self.ends.items()))
        return (
            f"served: {len(self.waits)}\n"
            f"waited: mean {mean:.3f} s, longest {longest:.3f} s, {longest / mean:.1f} times that\n"
            f"refused: {len(self.refusals)}, {untold} of them without when to try again\n"
            f"reserved at most: {self.most} bytes\n"
            f"servers that went: {ends}\n"
            f"answers cut short: {len(self.cut)}\n"
            f"asked too late, and not answered: {len(self.late)}\n"
        )


async def crowd(address: str, *, models: int, ensures: int, at_once: int, seed: int) -> Crowd:
    """Ask `ensures` times for one of `models`, `at_once` callers at a time."""
    chance = random.Random(seed)
    found = Crowd()
    asked = [f"m{min(int(chance.paretovariate(0.7)) - 1, models - 1)}" for _ in range(ensures)]
    left = iter(asked)
    async with AsyncPoolClient.connect(address, retry=RetryPolicy(patience=0)) as pool:
        follower = asyncio.create_task(_follow(pool, found))
        await asyncio.gather(*(_call(pool, left, found) for _ in range(at_once)))
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
    return found


async def _call(pool: AsyncPoolClient, left: "object", found: Crowd) -> None:
    for model in left:  # type: ignore[attr-defined]
        began = time.monotonic()
        try:
            server = (await pool.ensure(model)).server
        except (PoolFull, QueueFull) as error:
            found.refusals.append(error)
            await asyncio.sleep(error.retry_after or 0)
            continue
        found.waits.append(time.monotonic() - began)
        try:
            connected = await _connected(server)
            late = _is_over(server)
            answered = await _is_answered(server, *connected)
        except OSError:
            late, answered = _is_over(server), False
        if not answered:
            (found.late if late else found.cut).append(model)


def _is_over(server: Server) -> bool:
    """Whether its residency is, which began when the service gave it out."""
    assert server.last_use_time is not None
    return time.time() - server.last_use_time.timestamp() >= RESIDENCY


async def _follow(pool: AsyncPoolClient, found: Crowd) -> None:
    reserved: dict[tuple[str, int], int] = {}
    async for event in pool.watch():
        match event:
            case Synced():
                pass
            case ServerRemoved(server=server):
                reserved.pop((server.model, server.generation), None)
                if server.last_exit is not None:
                    found.ends[server.last_exit.cause] += 1
            case ServerChanged(server=server):
                taken = 0 if server.state in VACANT else server.expected_bytes
                reserved[server.model, server.generation] = taken
        found.most = max(found.most, sum(reserved.values()))


async def _connected(server: Server) -> Streams:
    host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def _is_answered(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """Whether a request gets its whole answer."""
    body = json.dumps({"model": server.served_model_name, "messages": [], "max_tokens": 2})
    head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
    try:
        writer.write((head + body).encode())
        answer = await reader.readline()
        length = 0
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            length = int(value) if name == "content-length" else length
        whole = json.loads(await reader.readexactly(length))
    except (OSError, ValueError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
    return b" 200 " in answer and bool(whole["choices"])
