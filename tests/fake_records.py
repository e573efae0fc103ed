"""What the pool remembers beyond the life of a service, without a disk."""

import asyncio
from collections.abc import Mapping

from pool_service.core.server import LastRun, RecoveredState, Role, Server, ServerId


class FakeRecords:
    """Records on a disk that is as slow as the port allows: only `settled` writes.

    degraded_reason: why the disk fails; damaged: files that cannot be read; loading,
    settling: how many seconds these take; flushing: those that namings and pins take in addition.
    """

    def __init__(self) -> None:
        self.degraded_reason = ""
        self.damaged: tuple[str, ...] = ()
        self.loading = 0.0
        self.settling = 0.0
        self.flushing = 0.0
        self.disk: dict[str, Server | LastRun] = {}
        self.puts: list[Server] = []
        self._unwritten: dict[str, Server | LastRun | None] = {}
        self._keys: dict[ServerId, str] = {}
        self.namings: Mapping[str, str] = {}
        self._unwritten_namings: Mapping[str, str] = {}
        self.pins: Mapping[str, bool] = {}
        self._unwritten_pins: Mapping[str, bool] = {}

    def put(self, server: Server) -> None:
        self.puts.append(server)
        if server.role is Role.ORPHAN:
            return
        key = _key(server)
        self._remove_record(server, unless=key)
        self._keys[server.id] = key
        self._unwritten[key] = server

    def remove(self, server: Server) -> None:
        self._remove_record(server)
        if server.is_current and (server.last_generation or server.last_exit):
            self._unwritten[server.model] = LastRun(
                server.model, server.last_generation, server.last_exit
            )

    def _remove_record(self, server: Server, unless: str = "") -> None:
        key = self._keys.pop(server.id, unless)
        known = self._unwritten.get(key, self.disk.get(key))
        if key != unless and isinstance(known, Server) and known.id == server.id:
            self._unwritten[key] = None

    def put_namings(self, namings: Mapping[str, str]) -> None:
        self._unwritten_namings = namings

    def put_pins(self, pins: Mapping[str, bool]) -> None:
        self._unwritten_pins = pins

    async def servers_settled(self) -> None:
        await _passes(self.settling)
        self._write_servers()

    async def settled(self) -> None:
        await _passes(self.settling + self.flushing)
        self.write()

    async def load(self) -> RecoveredState:
        await _passes(self.loading)
        entries = self.disk.values()
        return RecoveredState(
            servers=tuple(entry for entry in entries if isinstance(entry, Server)),
            pasts=tuple(entry for entry in entries if isinstance(entry, LastRun)),
            damaged=self.damaged,
            namings=self.namings,
            pins=self.pins,
        )

    def write(self) -> None:
        """What was put reaches the disk, if that works."""
        self._write_servers()
        if not self.degraded_reason:
            self.namings = self._unwritten_namings
            self.pins = self._unwritten_pins

    def _write_servers(self) -> None:
        if not self.degraded_reason:
            now = self.disk | self._unwritten
            self.disk = {key: entry for key, entry in now.items() if entry is not None}
            self._unwritten = {}

    def lose(self) -> None:
        """What was put since the last write is gone with the service."""
        self._unwritten = {}
        servers = [(key, one) for key, one in self.disk.items() if isinstance(one, Server)]
        self._keys = {one.id: key for key, one in servers}
        self._unwritten_namings = self.namings
        self._unwritten_pins = self.pins

    def says(self, model: str) -> Server | None:
        """What is on disk of a model's server."""
        entry = self.disk.get(model)
        return entry if isinstance(entry, Server) else None


def _key(server: Server) -> str:
    return server.model if server.is_current else f"{server.model} (generation {server.generation})"


async def _passes(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
