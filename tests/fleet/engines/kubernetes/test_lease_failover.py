"""Leadership by a Lease among fronts that are processes, so that one can die or be stopped."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.engines.kubernetes.api_server import LEASES, ApiServer, Kubectl
from tests.fleet.engines.kubernetes.fronts import LIFE_S
from tests.fleet.engines.told import LIMIT_S

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[4]
BUSY_S = 20
"""What a busy machine may add to any time."""


class Process:
    """A front as a process. now: what it said last."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.now: dict[str, Any] = {}

    async def until(self, **right: object) -> dict[str, Any]:
        """Return its line that says this, which may be the last one that was read."""
        async with asyncio.timeout(LIMIT_S):
            while not right.items() <= self.now.items():
                assert self.process.stdout
                self.now = json.loads(await self.process.stdout.readline())
        return self.now

    async def placed(self) -> dict[str, list[float]]:
        """End it; return the first and the last moment of each of its epochs."""
        self.process.terminate()
        assert self.process.stdout
        lines = (await self.process.stdout.read()).splitlines()
        placed: dict[str, list[float]] = json.loads(lines[-1])["placed"]
        return placed


@asynccontextmanager
async def contender(server: ApiServer, lease: str, name: str) -> AsyncIterator[Process]:
    access = server.access
    assert access.token
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fleet.engines.kubernetes.contender",
        access.server,
        str(access.token),
        str(access.ca or ""),
        lease,
        name,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Process(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_the_next_one_leads_when_the_leader_is_killed(
    server: ApiServer, kubectl: Kubectl
) -> None:
    await kubectl.delete_if_there(LEASES, "killed")
    async with contender(server, "killed", "one") as one:
        first = await one.until(leads=True)
        async with contender(server, "killed", "other") as other:
            await other.until(leads=False, address="one:1", epoch=first["epoch"])
            one.process.kill()
            killed = time.monotonic()
            second = await other.until(leads=True)
            assert second["epoch"] > first["epoch"]
            moments = (await other.placed())[str(second["epoch"])]
            print(f"led {moments[0] - killed:.2f} s after the kill")
            assert moments[0] - killed < LIFE_S + 1 + BUSY_S


async def test_a_leader_that_was_stopped_never_places_beside_the_next_one(
    server: ApiServer, kubectl: Kubectl
) -> None:
    await kubectl.delete_if_there(LEASES, "stopped")
    async with contender(server, "stopped", "one") as one:
        first = await one.until(leads=True)
        async with contender(server, "stopped", "other") as other:
            await other.until(leads=False, address="one:1")
            one.process.send_signal(signal.SIGSTOP)
            second = await other.until(leads=True)
            one.process.send_signal(signal.SIGCONT)
            await one.until(leads=False, address="other:1", epoch=second["epoch"])
            of_one, of_other = await one.placed(), await other.placed()
    assert list(of_one) == [str(first["epoch"])]
    assert of_one[str(first["epoch"])][1] < of_other[str(second["epoch"])][0]
