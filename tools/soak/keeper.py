"""The service under soak: one after the other at the same address."""

import asyncio
import random
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tools.demo.service import command
from tools.soak.ledger import Ledger

RECONNECT: Final = 3.0
"""Seconds after a service is back in which a channel may not have noticed: gRPC waits up to
one second between attempts, and a busy machine longer."""

PORTS: Final = range(20000, 30000)
"""Below those that Linux and macOS give to clients: nobody takes it while the service is away."""


class Keeper:
    """Starts services, ends them in various ways, and knows when there was none."""

    def __init__(
        self, directory: Path, config: Path, ledger: Ledger, chance: random.Random
    ) -> None:
        self.state_dir = directory / "state"
        self.log = directory / "service.log"
        self._config = config
        self._ledger = ledger
        self.address = f"127.0.0.1:{_free_port(chance)}"
        self._process: asyncio.subprocess.Process | None = None
        self._all: list[asyncio.subprocess.Process] = []
        self._expected: set[int] = set()
        self._away_since: float | None = None
        self._outages: list[tuple[float, float]] = []
        self._limits = "start_timeout = 25", "start_timeout = 26"
        self._waits: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The pid of the present service, None while there is none."""
        return self._process.pid if self._process and self._away_since is None else None

    def was_away(self, since: float, until: float) -> bool:
        """Whether there was no service at some time (of time.monotonic) between these.

        Also if there was one again and channels may not have noticed.
        """
        if self._away_since is not None and self._away_since <= until:
            return True
        return any(begin <= until and since <= end + RECONNECT for begin, end in self._outages)

    def change_configuration(self) -> None:
        """Write another one, by which no server is another."""
        now, then = self._limits
        self._limits = then, now
        beside = self._config.with_suffix(".new")
        beside.write_text(self._config.read_text().replace(now, then))
        beside.rename(self._config)

    async def start(self, *arguments: str) -> None:
        """Start one and return when it is SERVING."""
        began = time.monotonic()
        process = await self._spawn(*arguments)
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line.startswith(b"listening on "):
            self._expected.add(process.pid)
            raise RuntimeError(f"a service did not start; see {self.log}")
        self._process = process
        self._ledger.count("services started")
        self._ledger.measure("a service's start until SERVING", time.monotonic() - began)
        self._ledger.event(f"service {process.pid} serves")
        self._back()

    async def kill(self) -> None:
        """SIGKILL it, and return when it is gone."""
        await self._end(signal.SIGKILL)
        self._ledger.count("service: SIGKILL")

    async def end(self) -> None:
        """SIGKILL whatever was started here and still runs, for good."""
        self._gone()
        for process in self._all:
            self._expected.add(process.pid)
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def leave(self) -> None:
        """SIGTERM it: it leaves its servers. Return when it is gone."""
        began = time.monotonic()
        if await self._end(signal.SIGTERM) != 0:
            self._ledger.violation("a service that was stopped by SIGTERM did not exit with 0")
        self._ledger.measure("a service's end by SIGTERM", time.monotonic() - began)
        self._ledger.count("service: SIGTERM, servers kept")

    async def replace(self) -> None:
        """Let another take over from it."""
        old = self._process
        assert old is not None
        self._expected.add(old.pid)
        self._gone()
        self._ledger.event(f"service {old.pid} is replaced")
        await self.start("--replace")
        if await old.wait() != 0:
            self._ledger.violation("a service that was replaced did not exit with 0")
        self._ledger.count("service: replaced in place")

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        self._expected.add(process.pid)
        self._gone()
        self._ledger.event(f"service {process.pid} gets {number.name}")
        with suppress(ProcessLookupError):
            process.send_signal(number)
        return await process.wait()

    async def _spawn(self, *arguments: str) -> asyncio.subprocess.Process:
        with self.log.open("a") as stderr:
            process = await asyncio.create_subprocess_exec(
                *command("serve", "--config", str(self._config)),
                *("--state-dir", str(self.state_dir), "--listen", self.address),
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )
        self._all.append(process)
        wait = asyncio.create_task(self._wait(process))
        self._waits.add(wait)
        wait.add_done_callback(self._waits.discard)
        return process

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        if process.pid not in self._expected:
            self._ledger.violation(f"the service {process.pid} ended by itself with {status}")

    def _gone(self) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()

    def _back(self) -> None:
        if self._away_since is not None:
            self._outages.append((self._away_since, time.monotonic()))
            self._ledger.measure("without a service", time.monotonic() - self._away_since)
            self._away_since = None


def _free_port(chance: random.Random) -> int:
    while True:
        port = chance.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
