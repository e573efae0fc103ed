"""Leadership by a real etcd among fronts that are processes, so that one can die or be stopped."""

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

from tests.fleet.engines.etcd_process import EtcdProcess
from tests.fleet.engines.told import LIMIT_S

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[3]
TTL_S = 3
BUSY_S = 20
"""What a busy machine may add to any time."""


class ContenderProcess:
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
async def contender(etcd: EtcdProcess, name: str) -> AsyncIterator[ContenderProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fleet.engines.contender",
        etcd.endpoint,
        name,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield ContenderProcess(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def test_the_next_one_leads_when_the_leader_is_killed(own_etcd: EtcdProcess) -> None:
    async with contender(own_etcd, "one") as one:
        first = await one.until(leads=True)
        async with contender(own_etcd, "other") as other:
            await other.until(leads=False, address="one:1", epoch=first["epoch"])
            one.process.kill()
            killed = time.monotonic()
            second = await other.until(leads=True)
            assert second["epoch"] > first["epoch"]
            moments = (await other.placed())[str(second["epoch"])]
            assert moments[0] - killed < TTL_S + 1 + BUSY_S


async def test_a_leader_that_was_stopped_never_places_beside_the_next_one(
    own_etcd: EtcdProcess,
) -> None:
    async with contender(own_etcd, "one") as one:
        first = await one.until(leads=True)
        async with contender(own_etcd, "other") as other:
            await other.until(leads=False, address="one:1")
            one.process.send_signal(signal.SIGSTOP)
            second = await other.until(leads=True)
            one.process.send_signal(signal.SIGCONT)
            await one.until(leads=False, address="other:1", epoch=second["epoch"])
            of_one, of_other = await one.placed(), await other.placed()
    assert list(of_one) == [str(first["epoch"])]
    assert of_one[str(first["epoch"])][1] < of_other[str(second["epoch"])][0]
