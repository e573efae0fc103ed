"""Many models, room for a few, and callers who ask for them at random and use what they get."""

import asyncio
import json
import random
import statistics
import time
from dataclasses import dataclass, field

from pool_service_client import (
    AsyncPoolClient,
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

NEEDS = 100_000_000
"""Bytes that each model is declared to need."""

VACANT = {ServerState.QUEUED, ServerState.FAILED, ServerState.BACKING_OFF}


def config_of(models: int, room: int, runtime: str) -> str:
    """A catalogue of so many models, of which `room` fit."""
    entries = "".join(
        f"[models.m{number}]\nexpected_memory = {NEEDS}\nruntime_model = 'x?tokens=2'\n"
        for number in range(models)
    )
    memory = f"[memory]\nbudget = {NEEDS * room}\nqueue_limit = 1000\nqueue_timeout = 3600\n"
    return f"{runtime}[defaults]\nmin_residency = 0.05\n{memory}{entries}"


@dataclass
class Crowd:
    """What the callers met."""

    waits: list[float] = field(default_factory=list)
    cut: list[str] = field(default_factory=list)
    refusals: list[PoolError] = field(default_factory=list)
    most: int = 0
    """The most bytes that were ever reserved at a time, as the changes tell."""

    @property
    def longest_by_mean(self) -> float:
        return max(self.waits) / statistics.mean(self.waits)


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
            continue
        found.waits.append(time.monotonic() - began)
        if not await _is_answered(server):
            found.cut.append(model)


async def _follow(pool: AsyncPoolClient, found: Crowd) -> None:
    reserved: dict[str, int] = {}
    async for event in pool.watch():
        match event:
            case Synced():
                pass
            case ServerRemoved():
                reserved.pop(event.server.model, None)
            case ServerChanged(server=server):
                taken = 0 if server.state in VACANT else server.expected_bytes
                reserved[server.model] = taken
        found.most = max(found.most, sum(reserved.values()))


async def _is_answered(server: Server) -> bool:
    """Whether a request on the endpoint gets its whole answer."""
    host, _, port = server.endpoint.removeprefix("http://").rpartition(":")
    body = json.dumps({"model": server.served_model_name, "messages": [], "max_tokens": 2})
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        answer = await reader.readline()
        length = 0
        while line := (await reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            length = int(value) if name == "content-length" else length
        whole = json.loads(await reader.readexactly(length))
        writer.close()
    except (OSError, ValueError, asyncio.IncompleteReadError):
        return False
    return b" 200 " in answer and bool(whole["choices"])
