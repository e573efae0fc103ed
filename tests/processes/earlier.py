"""What adopts, and what is there to be adopted."""

import asyncio
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

from pool_service.adapters.process.identity import boot_id, identity_of, is_alive
from pool_service.adapters.records.record_format import Record, decode, encode
from pool_service.core.server import Phase, Server
from pool_service.core.types import ExitReport, Identity, LaunchPlan, Settings
from tests.processes.bench import Bench, fake_plan, first_line


def intent(launch_plan: LaunchPlan, model: str = "x", generation: int = 1) -> Server:
    """What is on disk before a process is spawned."""
    return Server(
        model=model,
        settings=Settings(runtime_model=model),
        phase=Phase.SPAWNING,
        generation=generation,
        created_at=0.0,
        last_used_at=0.0,
        keep_alive=300.0,
        plan=launch_plan,
    )


class EarlierService:
    """Another process that starts servers; it stays until it is killed."""

    def __init__(self, root: Path, state_dir: Path) -> None:
        self._root = root
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.earlier_service", str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._started: list[Identity] = []

    async def starts(self, launch_plan: LaunchPlan, model: str = "x") -> Server:
        """The record of a server after its spawn."""
        assert self.process.stdin
        assert self.process.stdout
        record = encode(Record(boot_id(), intent(launch_plan, model)))
        self.process.stdin.write(record + b"\n")
        self.process.stdin.flush()
        answer = await asyncio.to_thread(self.process.stdout.readline)
        server = decode(answer).entry
        assert isinstance(server, Server)
        assert server.identity
        self._started.append(server.identity)
        return server

    async def up(self, flags: str = "", model: str = "x") -> tuple[Server, Identity, Identity]:
        """A server that is up, with its identity and its grandchild's (or its own again)."""
        fifo = self._root / f"up-{secrets.token_hex(4)}"
        os.mkfifo(fifo)
        server = await self.starts(fake_plan(f"{flags}&tell={fifo}"), model)
        _, child_pid = (await first_line(fifo)).split()
        assert server.identity
        child = identity_of(int(child_pid)) if int(child_pid) else server.identity
        assert child
        self._started.append(child)
        return server, server.identity, child

    def is_killed(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> None:
        self.is_killed()
        for identity in self._started:
            if is_alive(identity):
                os.kill(identity.pid, signal.SIGKILL)


async def adopted(bench: Bench, server: Server) -> Identity:
    process = await bench.processes.adopt(server)
    assert process
    bench.identities.append(process.identity)
    return process.identity


async def end(bench: Bench, identity: Identity) -> ExitReport:
    """Its end and its sweep."""
    report = await bench.processes.exited(identity)
    await bench.processes.clean_up(identity)
    return report


def work_dir(bench: Bench, server: Server) -> Path:
    assert server.plan
    return bench.state_dir / "work" / server.plan.nonce
