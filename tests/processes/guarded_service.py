"""Plays a service that can be killed: it holds the state directory, keeps a guard, has servers.

    python -m tests.processes.guarded_service STATE_DIR GRACE

Each line of its input is an order in JSON, each line of its output what has happened.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.exits import Watched, exit_watch
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.state_dir.directory_lock import StateDir
from pool_service.adapters.state_dir.guard_keeper import GuardKeeper
from pool_service.adapters.system.clock import SystemClock
from pool_service.core.server import Phase, Server
from pool_service.core.types import Identity, LaunchPlan, Settings
from pool_service.logging_setup import configure_logging


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


class SayingWatch:
    """Says whom the keeper watches: a guard that has been started."""

    def open(self, pid: int) -> AbstractContextManager[Watched]:
        return self._open(pid)

    @contextmanager
    def _open(self, pid: int) -> Iterator[Watched]:
        with exit_watch().open(pid) as watched:
            say(guard=pid)
            yield watched


class Service:
    def __init__(self, state_dir: Path, keeper: GuardKeeper) -> None:
        self.keeper = keeper
        self.clock = SystemClock()
        self.records = FileRecords(state_dir)
        self.processes = LocalProcesses(state_dir, LogStore(state_dir))

    async def run(self) -> None:
        """Follow orders until there are no more, which leaves the servers, or until killed."""
        await self.records.load()
        while line := await asyncio.to_thread(sys.stdin.readline):
            order: dict[str, Any] = json.loads(line)
            await getattr(self, order.pop("do"))(**order)

    async def start(
        self,
        *,
        model: str,
        argv: list[str],
        nonce: str,
        limits: dict[str, float],
        stranger: int | None,
        unfinished: bool,
    ) -> None:
        """Start a server and record it; with the pid of a `stranger`, or as not yet started."""
        plan = LaunchPlan(
            tuple(argv), (), None, "/health", model, nonce, drains="cuts" not in argv[-3]
        )
        spawned = await self.processes.spawn(model, 7, plan)
        now = self.clock.now()
        server = Server(
            model=model,
            settings=replace(Settings(runtime_model=model), **limits),  # type: ignore[arg-type]
            phase=Phase.READY,
            generation=7,
            created_at=now,
            last_used_at=now,
            keep_alive=300.0,
            plan=plan,
            identity=spawned.identity,
            log_path=spawned.log_path,
            spawned_at=now,
            ready_at=now,
        )
        if stranger is not None:
            other = identity_of(stranger)
            assert other is not None
            server = replace(server, identity=replace(other, start_time=other.start_time - 1))
        if unfinished:
            server = replace(
                server, phase=Phase.SPAWNING, identity=None, log_path="", ready_at=None
            )
        self.records.put(server)
        await self.records.settled()
        say(server=as_list(spawned.identity), log=spawned.log_path)

    async def dismiss(self) -> None:
        await self.keeper.dismiss()
        say(dismissed=True)


def as_list(identity: Identity) -> list[object]:
    return [identity.pid, identity.start_time, identity.boot_id]


async def main() -> None:
    configure_logging("text", "error")
    state_dir = Path(sys.argv[1])
    with StateDir(state_dir):
        keeper = GuardKeeper(
            state_dir, float(sys.argv[2]), watch=SayingWatch(), first_pause_s=0.0, max_pause_s=0.0
        )
        async with keeper:
            say(guarded=keeper.guard_pid)
            await Service(state_dir, keeper).run()


if __name__ == "__main__":
    asyncio.run(main())
