"""The contract of each engine's leadership when a leader dies or is stopped.

Fronts that stand for leader are processes of their own.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from tests.fleet.engines.told import LIMIT_S

ROOT = Path(__file__).parents[3]
BUSY_S = 20
"""The time that a busy machine may add to any other."""


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


Contend = Callable[[str], AbstractAsyncContextManager[ContenderProcess]]
"""Runs a front of a name that stands for leader."""


@asynccontextmanager
async def contender(*arguments: str) -> AsyncIterator[ContenderProcess]:
    """Run tests/fleet/engines/contender.py with these arguments."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.fleet.engines.contender",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield ContenderProcess(process)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def check_next_leads_after_kill(contend: Contend, lease_s: float) -> None:
    """Check that the next front leads within its lease once the leader is killed."""
    async with contend("one") as one:
        first = await one.until(leads=True)
        async with contend("other") as other:
            await other.until(leads=False, address="one:1", epoch=first["epoch"])
            one.process.kill()
            killed = time.monotonic()
            second = await other.until(leads=True)
            assert second["epoch"] > first["epoch"]
            moments = (await other.placed())[str(second["epoch"])]
            assert moments[0] - killed < lease_s + 1 + BUSY_S


async def check_stopped_leader_never_places(contend: Contend) -> None:
    """Check that a leader that was stopped places nothing once the next one may."""
    async with contend("one") as one:
        first = await one.until(leads=True)
        async with contend("other") as other:
            await other.until(leads=False, address="one:1")
            one.process.send_signal(signal.SIGSTOP)
            second = await other.until(leads=True)
            one.process.send_signal(signal.SIGCONT)
            await one.until(leads=False, address="other:1", epoch=second["epoch"])
            of_one, of_other = await one.placed(), await other.placed()
    assert list(of_one) == [str(first["epoch"])]
    assert of_one[str(first["epoch"])][1] < of_other[str(second["epoch"])][0]
