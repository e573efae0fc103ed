"""Implementation of the port `Records`: the state of the pool on disk, in `record_files`.

The last entry of each model is kept in memory too, so that it can be written again after the disk
has failed or the files were removed. One worker thread writes, in rounds: changes during a round
wait for the next one, which writes the last entry of each changed model.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from pool_service.adapters.process.exits import retry_on_shortage
from pool_service.adapters.process.identity import boot_id
from pool_service.adapters.records.model_file import Found as FoundSaid
from pool_service.adapters.records.model_file import namings_file, pins_file
from pool_service.adapters.records.record_files import Found as FoundRecords
from pool_service.adapters.records.record_files import Outcome, RecordFiles
from pool_service.adapters.records.record_format import Entry, Record, record_key
from pool_service.adapters.system.clock import SystemClock
from pool_service.core.server import Exit, LastRun, RecoveredState, Role, Server, ServerId
from pool_service.ports import Clock

_log = structlog.get_logger(__name__)

T = TypeVar("T")

MAX_PASTS = 1000
"""Models without a server whose last run is remembered; beyond that the oldest is forgotten."""


@dataclass(slots=True)
class _Round:
    """The changes to write together.

    keys: those of the changed records, in the order of their first change.
    said: whether what callers said of models has changed.
    check: whether to look for files that were removed.
    done: set when the round is on disk or has failed.
    """

    keys: dict[str, None] = field(default_factory=dict)
    said: bool = False
    check: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_wanted(self) -> bool:
        """Whether there is anything to do in this round."""
        return self.check or self.said or bool(self.keys)


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
        self._namings = namings_file(state_dir)
        self._pins = pins_file(state_dir)
        self._known: dict[str, Entry] = {}
        self._keys: dict[ServerId, str] = {}
        # The models whose entry is a LastRun, the oldest first.
        self._pasts: dict[str, None] = {}
        self._failed: dict[str, None] = {}
        self._next = _Round()
        self._current: _Round | None = None
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._degraded_reason = ""
        self._is_writable = False
        self._degraded_changed = asyncio.Event()

    @property
    def degraded_reason(self) -> str:
        """The reason why changes do not reach the disk at present; empty if they do."""
        return self._degraded_reason

    async def wait_for_change(self, *, degraded: bool) -> bool:
        """Wait until the records are degraded, or not any more; return whether they are degraded.

        degraded: whether the caller knows them as degraded. Returns at once if that is outdated.
        """
        while bool(self._degraded_reason) is degraded:
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
        self._changed(key)

    def remove(self, server: Server) -> None:
        """Remove the record of a server; see the port.

        If it was its model's current server and ever had a process, its last run is remembered.
        """
        self._remove_record(server)
        if server.is_current and (server.last_generation or server.last_exit):
            past = LastRun(server.model, server.last_generation, server.last_exit)
            self._remember(past)
            self._changed(server.model)

    def _remove_record(self, server: Server, unless: str = "") -> None:
        """Remove a server's record, unless its key is `unless`.

        A server that becomes current, or is superseded, gets another key.
        """
        key = self._keys.pop(server.id, unless)
        known = self._known.get(key)
        if key != unless and isinstance(known, Server) and known.id == server.id:
            del self._known[key]
            self._changed(key)

    def put_namings(self, namings: Mapping[str, str]) -> None:
        """Set the runtime models that callers named; see the port."""
        self._namings.put(namings)
        self._next.said = True
        self._wake()

    def put_pins(self, pins: Mapping[str, bool]) -> None:
        """Set what callers of Pin said; see the port."""
        self._pins.put(pins)
        self._next.said = True
        self._wake()

    async def settled(self) -> None:
        """Wait until everything put so far is on disk, or its write has failed."""
        # The present round may have begun before the last put.
        waited_for = self._next if self._next.is_wanted else self._current
        if waited_for:
            await waited_for.done.wait()

    async def load(self) -> RecoveredState:
        """Read the records of an earlier service; see the port."""
        found = await self._loaded(self._files.read_all, self._files.explain) or FoundRecords()
        named = await self._loaded(self._namings.read, self._namings.explain) or FoundSaid({})
        pinned = await self._loaded(self._pins.read, self._pins.explain) or FoundSaid({})
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

    async def _loaded(self, read: Callable[[], T], explain: Callable[[OSError], str]) -> T | None:
        """Return what `read` returns; None, and say why, if that cannot be read.

        Each is read by itself: a part that cannot be read costs no other.
        """
        try:
            return await retry_on_shortage(lambda: self._in_worker(read))
        except OSError as error:
            self._set_degraded(explain(error))
            return None

    async def close(self) -> None:
        """Write the pending changes, then stop writing."""
        await self.settled()
        if self._timer:
            self._timer.cancel()
        await self._in_worker(self._files.close)
        self._worker.shutdown()

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
            self._changed(oldest)

    def _changed(self, key: str) -> None:
        self._next.keys[key] = None
        self._wake()

    def _wake(self) -> None:
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_all(), name="write records")

    async def _write_all(self) -> None:
        try:
            while self._next.is_wanted:
                self._current, self._next = self._next, _Round()
                await self._write(self._current)
        finally:
            self._writer = self._current = None
            self._arm()

    async def _write(self, current: _Round) -> None:
        # Failed changes first, as they have waited longest. They count as failed until written.
        self._failed |= current.keys
        changed = {key: self._known.get(key) for key in self._failed}
        known = dict(self._known)
        # Without changes, only a probe shows that the disk has failed, or works again.
        probe = current.check and not self._is_writable
        try:
            outcome: Outcome = await self._in_worker(
                lambda: self._files.write(changed, known, check=current.check, probe=probe)
            )
            why = await self._in_worker(partial(self._write_said, current)) or outcome.why
            self._is_writable = not outcome.why
            self._failed = dict.fromkeys(outcome.failed)
            self._set_degraded(why)
        finally:
            current.done.set()

    def _write_said(self, current: _Round) -> str:
        """Write what callers said of models where that is needed; return why that failed."""
        why = ""
        for file in (self._namings, self._pins):
            try:
                file.write(check=current.check)
            except OSError as error:
                why = file.explain(error)
        return why

    async def _in_worker(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, step)

    def _arm(self) -> None:
        """Start the time until the next check anew."""
        if self._timer:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._check_interval, self._check)

    def _check(self) -> None:
        """Begin a round that looks for removed files, and writes again what has failed."""
        self._next.check = True
        self._wake()

    def _set_degraded(self, reason: str) -> None:
        """Set `degraded_reason`; log only when the trouble begins and when it ends."""
        before, self._degraded_reason = self._degraded_reason, reason
        if bool(reason) is not bool(before):
            self._degraded_changed.set()
            self._degraded_changed = asyncio.Event()
        if reason and not before:
            _log.warning("records cannot be written", why=reason)
        elif before and not reason:
            _log.info("records are written again")
