import asyncio
import contextlib
import itertools
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity, LaunchPlan

FAKE_SERVER = Path(__file__).parents[1] / "fake_server.py"


def plan(*argv: str, environment: dict[str, str] | None = None) -> LaunchPlan:
    variables = tuple((environment or {}).items())
    return LaunchPlan(argv, variables, None, "/health", "x", nonce=secrets.token_hex(16))


def again(launch_plan: LaunchPlan) -> LaunchPlan:
    """The plan for one more process like it."""
    return replace(launch_plan, nonce=secrets.token_hex(16))


def fake_plan(flags: str = "", environment: dict[str, str] | None = None) -> LaunchPlan:
    argv = (sys.executable, "-S", "-E", str(FAKE_SERVER), "serve", f"x?{flags}", "--port", "0")
    return plan(*argv, environment=environment)


@dataclass(frozen=True)
class Up:
    """A fake server that has said that it is up."""

    identity: Identity
    log_path: Path
    port: int
    child: Identity | None


class Bench:
    """The adapter under test, and what starts fake servers by it.

    term_timeout: seconds that what a process left behind has after SIGTERM.
    """

    def __init__(self, root: Path, term_timeout: float = 0.5) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.logs = LogStore(self.state_dir)
        self.processes = LocalProcesses(
            self.state_dir, self.logs, delays=Delays(term_timeout_s=term_timeout)
        )
        self.identities: list[Identity] = []
        self._numbers = itertools.count()

    async def spawn(self, launch_plan: LaunchPlan, model: str = "x") -> Identity:
        spawned = await self.processes.spawn(model, 1, again(launch_plan))
        self.identities.append(spawned.identity)
        return spawned.identity

    async def up(
        self, flags: str = "", model: str = "x", environment: dict[str, str] | None = None
    ) -> Up:
        fifo = self.root / f"up-{next(self._numbers)}"
        os.mkfifo(fifo)
        launch_plan = fake_plan(f"{flags}&tell={fifo}", environment)
        spawned = await self.processes.spawn(model, 1, launch_plan)
        self.identities.append(spawned.identity)
        port, child_pid = (await first_line(fifo)).split()
        child = identity_of(int(child_pid)) if int(child_pid) else None
        return Up(spawned.identity, Path(spawned.log_path), int(port), child)

    async def close(self) -> None:
        for identity in self.identities:
            await self.processes.signal(identity, StopSignal.KILL)
            await self.processes.exited(identity)
            await self.processes.clean_up(identity)


async def until(condition: Callable[[], object]) -> None:
    """Return when another process has made it true."""
    while not condition():  # noqa: ASYNC110 - nothing tells it to this process
        await asyncio.sleep(0.01)


async def first_line(fifo: Path) -> str:
    """What is written into a FIFO, once it is."""
    # Open for writing as well, so that it does not end before it has begun.
    descriptor = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
        return os.read(descriptor, 4096).decode()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def ended(identity: Identity) -> None:
    await wait_for_exit(exit_watch(), identity)


def command_line(process: psutil.Process) -> str:
    """Return what a process was started with; empty of one that has ended, if only just now."""
    with contextlib.suppress(psutil.Error):
        if process.status() != psutil.STATUS_ZOMBIE:
            return " ".join(process.cmdline())
    return ""


def child_of_ours() -> "subprocess.Popen[bytes]":
    """A process that the adapter did not start."""
    return subprocess.Popen(["/bin/sleep", "1000"])


def reap(identity: Identity) -> None:
    """As if somebody else had waited for the process."""
    os.waitpid(identity.pid, 0)
