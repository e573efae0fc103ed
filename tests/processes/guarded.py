"""A state directory, the services that hold it one after the other, and their guards."""

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.state_dir.guard_sentry import COMMAND_VARIABLE
from pool_service.core.server import Cause
from pool_service.core.types import Identity
from tests.processes.bench import FAKE_SERVER, command_line, first_line, until

SOON = 0.05  # a grace that is over before anybody comes
LONG = 1000.0  # a grace that no test lives to see the end of
LIMITS = {"drain_timeout": LONG, "stop_timeout": LONG}


@dataclass(frozen=True)
class Running:
    """A server that the service started and that is up."""

    identity: Identity
    log_path: Path
    port: int
    child: Identity | None


class Service:
    """A service in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, root: Path, guard: Identity) -> None:
        self.process = process
        self.root = root
        self.guard = guard

    async def start(
        self,
        model: str,
        flags: str = "",
        *,
        argv: tuple[str, ...] = (),
        limits: dict[str, float] = LIMITS,
        stranger: int | None = None,
        unfinished: bool = False,
    ) -> Running:
        """A server that is up, and recorded."""
        up = self.root / f"up-{model}"
        os.mkfifo(up)
        name = f"x?{flags}&tell={up}"
        fake = (sys.executable, "-S", "-E", str(FAKE_SERVER), "serve", name, "--port", "0")
        await self.order(
            do="start",
            model=model,
            argv=argv or fake,
            nonce=secrets.token_hex(16),
            limits=limits,
            stranger=stranger,
            unfinished=unfinished,
        )
        port, child = (await first_line(up)).split()
        answer = await self.answer("server")
        identity = Identity(*answer["server"])
        child_identity = identity_of(int(child)) if int(child) else None
        return Running(identity, Path(answer["log"]), int(port), child_identity)

    async def order(self, **what: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        await self.process.stdin.drain()

    async def answer(self, name: str) -> dict[str, Any]:
        """The next line that tells of this."""
        assert self.process.stdout is not None
        line: dict[str, Any] = {}
        while name not in line:
            line = json.loads(await self.process.stdout.readline())
        return line

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    async def leave(self) -> None:
        """It ends in order, and keeps its servers."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await self.process.wait() == 0


class Pool:
    """One state directory, its services one after the other, and all that they started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.services: list[Service] = []

    async def service(self, grace: float) -> Service:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.processes.guarded_service"),
            *(str(self.state_dir), str(grace)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        service = Service(process, self.root, Identity(0, 0, ""))
        self.services.append(service)
        if pid := (await service.answer("guarded"))["guarded"]:
            service.guard = known(pid)
        return service

    def processes(self) -> list[str]:
        """What runs of it: each names something under its directory."""
        return [line for line in map(command_line, self._processes()) if line]

    def guards(self) -> list[str]:
        return [line for line in self.processes() if "pool_service.guard" in line]

    def sentries(self) -> list[psutil.Process]:
        """The shells that wait for the end of both a service and its guard."""
        return [one for one in psutil.process_iter() if self._is_sentry(one)]

    async def sentry(self) -> psutil.Process:
        """The one of them, once it shows what it is: for a moment after its exec it does not."""
        await until(lambda: len(self.sentries()) == 1)
        (sentry,) = self.sentries()
        return sentry

    def _is_sentry(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error):
            told = process.environ().get(COMMAND_VARIABLE, "")
            return str(self.state_dir) in told and process.status() != "zombie"
        return False

    def guard_log(self) -> str:
        return (self.state_dir / "guard.log").read_text()

    async def guarding(self, guard: Identity) -> None:
        """Return when this guard has the lock."""
        lock = self.state_dir / "guard.lock"
        await until(lambda: lock.exists() and f'"pid": {guard.pid},' in lock.read_text())

    async def ends(self) -> dict[str, tuple[int, Cause]]:
        """What is remembered of models that have no server: generation and cause."""
        remembered = await FileRecords(self.state_dir).load()
        assert remembered.servers == ()
        return {
            past.model: (past.generation, past.last_exit.cause)
            for past in remembered.pasts
            if past.last_exit
        }

    async def close(self) -> None:
        for service in self.services:
            if service.process.returncode is None:
                await service.kill()
        for process in [*self.sentries(), *self._processes()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _processes(self) -> Iterable[psutil.Process]:
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.root) in " ".join(process.cmdline()):
                    yield process


def known(pid: int) -> Identity:
    identity = identity_of(pid)
    assert identity is not None
    return identity
