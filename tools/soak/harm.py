"""Kills servers, the service and its guard, each in several ways, at random."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import psutil

from pool_service_client.v1 import pool_service_pb2 as pb
from tools.soak import processes
from tools.soak.gate import Gate
from tools.soak.keeper import Keeper
from tools.soak.ledger import Ledger
from tools.soak.watcher import Watcher

PAUSE: Final = 2.5
"""Seconds between two harms, on average."""
AWAY: Final = 2.0
"""Seconds without a service, at most; far below the grace of the guard."""

DEATHS: Final = 0.3
"""How often a server dies while there is no service."""


class Harm:
    """Everything that is killed here is noted before, so that what follows is explained."""

    def __init__(
        self,
        gate: Gate,
        keeper: Keeper,
        watcher: Watcher,
        mark: str,
        ledger: Ledger,
        chance: random.Random,
    ) -> None:
        self._gate = gate
        self._keeper = keeper
        self._watcher = watcher
        self._mark = mark
        self._ledger = ledger
        self._chance = chance
        self._acts: dict[Callable[[], Awaitable[None]], float] = {
            self._kill_server: 40,
            self._stop_server: 8,
            self._pause_server: 6,
            self._kill_service: 10,
            self._leave: 4,
            self._replace: 5,
            self._kill_guard: 4,
            self._kill_service_and_guard: 2,
        }

    async def run(self) -> None:
        """Do harm until cancelled."""
        while True:
            await asyncio.sleep(self._chance.expovariate(1 / PAUSE))
            async with self._gate.passed():
                acts, weights = list(self._acts), list(self._acts.values())
                await self._chance.choices(acts, weights)[0]()

    # --- servers ------------------------------------------------------------------------

    async def _kill_server(self) -> None:
        if self._signal_one(signal.SIGKILL):
            self._ledger.count("servers: SIGKILL")

    async def _stop_server(self) -> None:
        """For good: the service has to find out."""
        server = self._signal_one(signal.SIGSTOP)
        if server is not None:
            self._watcher.life(server).is_stopped = True
            self._ledger.count("servers: SIGSTOP for good")

    async def _pause_server(self) -> None:
        """For a moment: the service may find out or not."""
        server = self._signal_one(signal.SIGSTOP)
        if server is not None:
            self._ledger.count("servers: SIGSTOP for a moment")
            await asyncio.sleep(self._chance.uniform(0.1, 5.0))
            if processes.is_server(server.pid, self._mark):
                with suppress(ProcessLookupError):
                    os.kill(server.pid, signal.SIGCONT)

    def _signal_one(self, number: signal.Signals) -> pb.Server | None:
        servers = sorted(self._watcher.living(), key=lambda one: one.model)
        if not servers:
            return None
        server = self._chance.choice(servers)
        if not processes.is_server(server.pid, self._mark):
            return None
        life = self._watcher.life(server)
        if number is signal.SIGKILL:
            life.killed_by_us = True
        else:
            life.stopped_by_us = True
        where = f"{server.model} #{server.generation} pid {server.pid}"
        self._ledger.event(f"{number.name} to {where}")
        with suppress(ProcessLookupError):
            os.kill(server.pid, number)
        return server

    # --- the service --------------------------------------------------------------------

    async def _kill_service(self) -> None:
        await self._keeper.kill()
        await self._come_back()

    async def _leave(self) -> None:
        await self._keeper.leave()
        await self._come_back()

    async def _replace(self) -> None:
        await self._keeper.replace()

    async def _come_back(self) -> None:
        """After a while; a server may die meanwhile."""
        if self._chance.random() < DEATHS:
            await self._kill_server()
        await asyncio.sleep(self._chance.uniform(0.0, AWAY))
        await self._keeper.start()

    async def _kill_guard(self) -> None:
        for guard in await asyncio.to_thread(processes.guards, self._keeper.state_dir):
            self._ledger.event(f"SIGKILL to the guard {guard.pid}")
            with suppress(psutil.NoSuchProcess):
                guard.kill()
            self._ledger.count("guards: SIGKILL")

    async def _kill_service_and_guard(self) -> None:
        await self._keeper.kill()
        await self._kill_guard()
        await self._come_back()
