"""A state directory, and the processes that its service has started."""

import os
import secrets
from pathlib import Path

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity, LaunchPlan

LONG = 1000.0
PATH = (("PATH", os.environ["PATH"]),)


def plan(*argv: str) -> LaunchPlan:
    return LaunchPlan(argv, PATH, None, "/health", "m", secrets.token_hex(16))


CAT = ("/bin/cat",)
SLEEP = ("/bin/sleep", "1000")


def shell(script: str) -> LaunchPlan:
    return plan("/bin/sh", "-c", script)


class Machine:
    """The adapter under test, and the processes that it has started."""

    def __init__(self, root: Path) -> None:
        self.state_dir = root / "state"
        self.logs = LogStore(self.state_dir)
        self.processes = LocalProcesses(
            self.state_dir, self.logs, delays=Delays(term_timeout_s=LONG, rescan_s=0.0)
        )
        self.started: list[Identity] = []

    async def spawn(self, launch_plan: LaunchPlan, model: str = "m") -> Identity:
        spawned = await self.processes.spawn(model, 1, launch_plan)
        self.started.append(spawned.identity)
        return spawned.identity

    def work(self) -> list[str]:
        """The working directories that there are."""
        directory = work_dirs(self.state_dir)
        return sorted(path.name for path in directory.iterdir()) if directory.exists() else []

    async def close(self) -> None:
        for identity in self.started:
            await self.processes.signal(identity, StopSignal.KILL)
            await self.processes.exited(identity)
            await self.processes.clean_up(identity)


def real(pid: int) -> Identity:
    identity = identity_of(pid)
    assert identity is not None
    return identity
