"""Implementation of the port `Records`: the state of the pool on disk.

The last entry of each model is kept in memory too, so that it can be written again after the disk
has failed or the files were removed. Servers (`record_files`) and what callers said of models
(`model_file`) have a worker thread and rounds of writing each: the latter is flushed to the disk
itself, which may take seconds, and no start or signal of a server waits for that.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TypeVar

import structlog

from pool_service.adapters.process.exits import retry_on_shortage
from pool_service.adapters.process.identity import boot_id
from pool_service.adapters.records.model_file import Found as FoundSaid
from pool_service.adapters.records.model_file import ModelFile, namings_file, pins_file
from pool_service.adapters.records.record_files import Found as FoundRecords
from pool_service.adapters.records.record_files import Outcome, RecordFiles
from pool_service.adapters.records.record_format import Entry, Record, record_key
from pool_service.adapters.records.write_rounds import WriteRounds
from pool_service.adapters.system.clock import SystemClock
from pool_service.core.server import Exit, LastRun, RecoveredState, Role, Server, ServerId
from pool_service.ports import Clock

_log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_PASTS = 1000
"""Models without a server whose last run is remembered; beyond that the oldest is forgotten."""


class Part(Enum):
    """Names the parts that fail each by itself, in the order in which reasons are told."""

    SERVERS = "servers"
    NAMINGS = "namings"
    PINS = "pins"


class FileRecords:
    """Implements the port `Records` by files in a state directory.

    boot: the name of the present boot of the machine; None: read it from the system.
    check_interval: seconds between two checks that no file was removed; a write that has failed is
        repeated with each.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        clock: Clock | None = None,
        boot: str | None = None,
        check_interval: float = 5.0,
    ) -> None:
        self._clock = clock or SystemClock()
        self._boot = boot or boot_id()
        self._files = RecordFiles(state_dir, self._boot)
        self._check_interval = check_interval
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="records")
        self._rounds = WriteRounds(self._write_servers, "write records")
        self._namings = namings_file(state_dir)
        self._pins = pins_file(state_dir)
        self._said_worker = ThreadPoolExecutor(1, thread_name_prefix="records-said")
        self._said_rounds = WriteRounds(self._write_said, "write what callers said")
        self._known: dict[str, Entry] = {}
        self._keys: dict[ServerId, str] = {}
        # The models whose entry is a LastRun, the oldest first.
        self._pasts: dict[str, None] = {}
        # The keys of changed entries, in the order of their first change.
        self._changed: dict[str, None] = {}
        self._failed: dict[str, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._reasons = dict.fromkeys(Part, "")
        self._is_writable = False
        self._degraded_changed = asyncio.Event()

    @property
    def degraded_reason(self) -> str:
        """The reasons why changes do not reach the disk at present; empty if they do."""
        return "; and ".join(filter(None, self._reasons.values()))

    async def wait_for_change(self, *, degraded: bool) -> bool:
        """Wait until the records are degraded, or not any more; return whether they are degraded.

        degraded: whether the caller knows them as degraded. Returns at once if that is outdated.
        """
        while bool(self.degraded_reason) is degraded:
            await self._degraded_changed.wait()
        return not degraded

    def put(self, server: Server) -> None:
        """Set the record of a server; see the port.

        An orphan gets none, as it is found by its process alone.
        """
        if server.role is Role.ORPHAN:
            return
        key = record_key(server)
        self._remove_record(server, unless=key)
        self._keys[server.id] = key
        self._pasts.pop(key, None)
        self._known[key] = server
        self._note_change(key)

    def remove(self, server: Server) -> None:
        """Remove the record of a server; see the port.

        If it was its model's current server and ever had a process, its last run is remembered.
        """
        self._remove_record(server)
        if server.is_current and (server.last_generation or server.last_exit):
            past = LastRun(server.model, server.last_generation, server.last_exit)
            self._remember(past)
            self._note_change(server.model)

    def _remove_record(self, server: Server, unless: str = "") -> None:
        """Remove a server's record, unless its key is `unless`.

        A server that becomes current, or is superseded, gets another key.
        """
        key = self._keys.pop(server.id, unless)
        known = self._known.get(key)
        if key != unless and isinstance(known, Server) and known.id == server.id:
            del self._known[key]
            self._note_change(key)

    def put_namings(self, namings: Mapping[str, str]) -> None:
        """Set the runtime models that callers named; see the port."""
        self._namings.put(namings)
        self._said_rounds.want()

    def put_pins(self, pins: Mapping[str, bool]) -> None:
        """Set what callers of Pin said; see the port."""
        self._pins.put(pins)
        self._said_rounds.want()

    async def servers_settled(self) -> None:
        """Wait until every change of a server is on disk; see the port."""
        await self._rounds.settled()

    async def settled(self) -> None:
        """Wait until everything put so far is on disk, or its write has failed."""
        await self._rounds.settled()
        await self._said_rounds.settled()

    async def load(self) -> RecoveredState:
        """Read the records of an earlier service; see the port."""
        files, namings, pins = self._files, self._namings, self._pins
        found = await self._loaded(Part.SERVERS, files.read_all, files.explain) or FoundRecords()
        named = await self._loaded(Part.NAMINGS, namings.read, namings.explain) or FoundSaid({})
        pinned = await self._loaded(Part.PINS, pins.read, pins.explain) or FoundSaid({})
        for entry in map(self._as_of_now, found.records):
            self._known[record_key(entry)] = entry
            if isinstance(entry, LastRun):
                self._remember(entry)
            else:
                self._keys[entry.id] = record_key(entry)
        self._arm()
        entries = self._known.values()
        return RecoveredState(
            servers=tuple(entry for entry in entries if isinstance(entry, Server)),
            pasts=tuple(entry for entry in entries if isinstance(entry, LastRun)),
            damaged=found.damaged + named.damaged + pinned.damaged,
            namings=named.content,
            pins=pinned.content,
        )

    async def _loaded(
        self, part: Part, read: Callable[[], T], explain: Callable[[OSError], str]
    ) -> T | None:
        """Return what `read` returns; None, and say why, if that cannot be read.

        Each is read by itself: a part that cannot be read costs no other.
        """
        worker = self._worker if part is Part.SERVERS else self._said_worker
        try:
            return await retry_on_shortage(lambda: _in_worker(worker, read))
        except OSError as error:
            self._set_degraded(part, explain(error))
            return None

    async def close(self) -> None:
        """Write the pending changes, then stop writing."""
        self._is_closing = True
        self._disarm()
        await self.settled()
        await _in_worker(self._worker, self._files.close)
        self._worker.shutdown()
        self._said_worker.shutdown()

    def _as_of_now(self, record: Record) -> Entry:
        """Return the entry of a record; of an earlier boot only the last run, as if it ended now.

        Times of an earlier boot cannot be compared with the present clock.
        """
        entry = record.entry
        if record.boot_id == self._boot:
            return entry
        end = self._ended_by_now(entry.last_exit)
        return LastRun(entry.model, entry.generation, end, entry.successor_generation)

    def _ended_by_now(self, end: Exit | None) -> Exit | None:
        return end and replace(end, at=self._clock.now())

    def _remember(self, past: LastRun) -> None:
        """Keep a last run, and drop the oldest one if there are too many."""
        self._known[past.model] = past
        self._pasts[past.model] = None
        if len(self._pasts) > MAX_PASTS:
            oldest = next(iter(self._pasts))
            del self._pasts[oldest], self._known[oldest]
            self._note_change(oldest)

    def _note_change(self, key: str) -> None:
        self._changed[key] = None
        self._rounds.want()

    async def _write_servers(self, check: bool) -> None:  # noqa: FBT001 - the rounds' only word
        # Failed changes first, as they have waited longest. They count as failed until written.
        self._failed |= self._changed
        self._changed = {}
        changed = {key: self._known.get(key) for key in self._failed}
        known = dict(self._known)
        # Without changes, only a probe shows that the disk has failed, or works again.
        probe = check and not self._is_writable
        try:
            outcome: Outcome = await _in_worker(
                self._worker, lambda: self._files.write(changed, known, check=check, probe=probe)
            )
            self._is_writable = not outcome.why
            self._failed = dict.fromkeys(outcome.failed)
            self._set_degraded(Part.SERVERS, outcome.why)
        finally:
            self._arm()

    async def _write_said(self, check: bool) -> None:  # noqa: FBT001 - the rounds' only word
        """Write what callers said of models where that is needed."""
        try:
            await self._write_file(Part.NAMINGS, self._namings, check=check)
            await self._write_file(Part.PINS, self._pins, check=check)
        finally:
            self._arm()

    async def _write_file(
        self, part: Part, file: ModelFile[str] | ModelFile[bool], *, check: bool
    ) -> None:
        why = ""
        try:
            await _in_worker(self._said_worker, lambda: file.write(check=check))
        except OSError as error:
            why = file.explain(error)
        self._set_degraded(part, why)

    def _arm(self) -> None:
        """Start the time until the next check, unless it runs already."""
        if self._timer is None and not self._is_closing:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._check_interval, self._check)

    def _disarm(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None

    def _check(self) -> None:
        """Begin rounds that look for removed files, and write again what has failed."""
        self._disarm()
        self._rounds.want(check=True)
        self._said_rounds.want(check=True)

    def _set_degraded(self, part: Part, reason: str) -> None:
        """Set why a part is not written (empty: it is); log only when the reasons change."""
        before, self._reasons[part] = self.degraded_reason, reason
        now = self.degraded_reason
        if bool(now) is not bool(before):
            self._degraded_changed.set()
            self._degraded_changed = asyncio.Event()
        if now and now != before:
            _log.warning("records cannot be written", why=now)
        elif before and not now:
            _log.info("records are written again")


async def _in_worker(worker: ThreadPoolExecutor, step: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(worker, step)
