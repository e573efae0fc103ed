"""A state directory whose records one service after the other uses."""

import asyncio
import resource
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from pool_service.adapters.records.record_files import file_name
from pool_service.adapters.records.record_format import decode
from pool_service.adapters.records.records import FileRecords, Part
from pool_service.core.server import Cause, Exit, LastRun, RecoveredState, Server
from pool_service.core.types import Diagnosis, ExitReport
from tests.adapters.remembered import BOOT, ready

NOW = 77.0
END = Exit(1, Cause.CRASHED, ExitReport(1, None, Diagnosis.CRASHED, "died", ("last",)), 5.0)
ENDED = replace(ready("ended", 3), last_exit=END)
NEVER = 3600.0


class FixedClock:
    def now(self) -> float:
        return NOW

    def wall(self, at: float) -> float:
        return at


class Told(FileRecords):
    """Tells of each round of writing servers."""

    def __init__(self, disk: "Disk") -> None:
        super().__init__(disk.state_dir, clock=FixedClock(), boot=BOOT, check_interval=0.001)
        self.rounds = asyncio.Queue[str]()
        disk.services.append(self)

    def _set_degraded(self, part: Part, reason: str) -> None:
        super()._set_degraded(part, reason)
        if part is Part.SERVERS:
            self.rounds.put_nowait(reason)


class Disk:
    """A state directory, and services that use it one after the other."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.servers = state_dir / "servers"
        self.damaged = self.servers / "damaged"
        self.services: list[FileRecords] = []

    def service(self, boot: str = BOOT) -> FileRecords:
        records = FileRecords(self.state_dir, clock=FixedClock(), boot=boot, check_interval=NEVER)
        self.services.append(records)
        return records

    async def keeps(self, *servers: Server) -> FileRecords:
        records = self.service()
        for server in servers:
            records.put(server)
        await records.settled()
        return records

    async def loaded(self, boot: str = BOOT) -> RecoveredState:
        return await self.service(boot).load()

    def path(self, model: str) -> Path:
        return self.servers / file_name(model)

    def says(self, model: str) -> Server | LastRun:
        return decode(self.path(model).read_bytes()).entry

    async def close(self) -> None:
        for records in self.services:
            await records.close()


@contextmanager
def no_room() -> Iterator[list[MutableMapping[str, Any]]]:
    """As on a full disk: files can be made and not written, so not the test's own output."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with capture_logs() as logs:
            yield logs
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
