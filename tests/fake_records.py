"""What the pool remembers beyond the life of a service, without a disk."""

import asyncio
from collections.abc import Mapping

from pool_service.core.types import Past, Remembered, Server


class FakeRecords:
    """Records on a disk that is as slow as the port allows: only `settled` writes.

    trouble: the disk fails, and says so; damaged: files that cannot be read; loading,
    settling: how many seconds these take.
    """

    def __init__(self) -> None:
        self.trouble = ""
        self.damaged: tuple[str, ...] = ()
        self.loading = 0.0
        self.settling = 0.0
        self.disk: dict[str, Server | Past] = {}
        self.puts: list[Server] = []
        self._unwritten: dict[str, Server | Past] = {}
        self.namings: Mapping[str, str] = {}
        self._unwritten_namings: Mapping[str, str] = {}

    def put(self, server: Server) -> None:
        self.puts.append(server)
        self._unwritten[server.model] = server

    def remove(self, server: Server) -> None:
        self._unwritten[server.model] = Past(
            server.model, server.generation, server.last_exit, server.given
        )

    def put_namings(self, namings: Mapping[str, str]) -> None:
        self._unwritten_namings = namings

    async def settled(self) -> None:
        await _passes(self.settling)
        self.write()

    async def load(self) -> Remembered:
        await _passes(self.loading)
        entries = self.disk.values()
        return Remembered(
            servers=tuple(entry for entry in entries if isinstance(entry, Server)),
            pasts=tuple(entry for entry in entries if isinstance(entry, Past)),
            damaged=self.damaged,
            namings=self.namings,
        )

    def write(self) -> None:
        """What was put reaches the disk, if that works."""
        if not self.trouble:
            self.disk |= self._unwritten
            self._unwritten = {}
            self.namings = self._unwritten_namings

    def lose(self) -> None:
        """What was put since the last write is gone with the service."""
        self._unwritten = {}
        self._unwritten_namings = self.namings

    def says(self, model: str) -> Server | None:
        """What is on disk of a model's server."""
        entry = self.disk.get(model)
        return entry if isinstance(entry, Server) else None


async def _passes(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
