"""Implementation of the port `Memory`: samples of the machine's and the servers' memory."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from urllib.parse import urlsplit

from pool_service.adapters.memory.footprint import Footprints, work_of
from pool_service.adapters.memory.machine_memory import MachineMemory
from pool_service.adapters.probe.http_get import Answer, get
from pool_service.core.server import Phase, Server
from pool_service.core.types import Identity, MemorySample

IsLost = Callable[[Identity, str], Awaitable[bool]]
"""Takes a process and its endpoint."""

STATUS_PATH = "/v1/status"
STATUS_TIMEOUT_S = 1.0
"""A busy server may answer later; then its footprint alone counts."""

MAX_CONCURRENT_REQUESTS = 16

MAX_BYTES = 2**50
"""Reported numbers above this are not credible, and might not fit into a message's 64 bits."""

_HTTP_OK = 200


class HostMemory:
    """Samples the memory of this machine and of the servers on it.

    metal: whether servers are asked for the bytes of Metal memory that they have taken.
    standbys: returns the processes that are to become servers.
    is_lost: tells whether an endpoint is certainly no longer that of its process: another program
        on its port is not asked.
    """

    def __init__(
        self,
        machine: MachineMemory,
        *,
        metal: bool = sys.platform == "darwin",
        standbys: Callable[[], Collection[Identity]] = tuple,
        is_lost: IsLost | None = None,
    ) -> None:
        self._machine = machine
        self._footprints = Footprints()
        self._standbys = standbys
        self._metal = metal
        self._is_lost = is_lost

    async def sample(self, servers: Collection[Server]) -> MemorySample:
        """Sample the memory of the machine and of these servers; see the port."""
        phases = {one.identity: one.phase for one in servers if one.identity is not None}
        sampling = asyncio.to_thread(self._sample, phases, list(self._standbys()))
        sample, reported = await asyncio.gather(sampling, self._reported(servers))
        taken = dict(sample.footprints)
        for identity, count in reported.items():
            taken[identity] = max(taken.get(identity, 0), count)
        return replace(sample, footprints=taken)

    def _sample(self, phases: dict[Identity, Phase], standbys: list[Identity]) -> MemorySample:
        """Sample what the system tells: all but the Metal memory that servers report."""
        began = time.thread_time()
        trees = self._footprints.trees([*phases, *standbys])
        taken = self._footprints.of(trees)
        starting = [one for one, phase in phases.items() if phase is Phase.STARTING]
        works = {one: work_of(trees[one]) for one in starting if one in taken}
        # A standby may have become a server meanwhile.
        standby_bytes = sum(taken.pop(one, 0) for one in standbys if one not in phases)
        machine = self._machine
        total, available = machine.both()
        pressured = machine.pressured()
        critical = pressured and machine.critical()
        return MemorySample(
            total,
            available,
            pressured,
            footprints=taken,
            standbys=standby_bytes,
            cost=time.thread_time() - began,
            critical=critical,
            work={one: work for one, work in works.items() if work is not None},
        )

    async def _reported(self, servers: Collection[Server]) -> dict[Identity, int]:
        """Return the bytes of Metal memory that the READY servers report, by their processes."""
        if not self._metal:
            return {}
        slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        asked = [server for server in servers if server.phase is Phase.READY]
        answers = await asyncio.gather(*(self._ask(server, slots) for server in asked))
        return {
            server.identity: count
            for server, count in zip(asked, answers, strict=True)
            if server.identity is not None and count is not None
        }

    async def _ask(self, server: Server, slots: asyncio.Semaphore) -> int | None:
        """Return the bytes of Metal memory that a server reports; None if it reports none."""
        url, identity = urlsplit(server.endpoint), server.identity
        async with slots:
            if identity is None or (
                self._is_lost is not None and await self._is_lost(identity, server.endpoint)
            ):
                return None
            answer = await get(url.hostname or "", url.port or 0, STATUS_PATH, STATUS_TIMEOUT_S)
        return metal_memory(answer)


def metal_memory(answer: Answer | None) -> int | None:
    """Return the bytes of Metal memory in vllm-mlx's status answer; None if it has no such."""
    if answer is None or answer.status != _HTTP_OK:
        return None
    try:
        metal = json.loads(answer.body)["metal"]
        count = int((metal["active_memory_gb"] + metal["cache_memory_gb"]) * 1e9)
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    return count if 0 <= count <= MAX_BYTES else None
