"""Remembers the pool on disk; what is written how is in `record_files` and `record_format`.

What is known of each model is kept here as well, so that it can be written (again) when a
disk that failed is back, or when somebody removed the files. One worker thread does all the
writing, in rounds: while one is under way, changes gather for the next, of each model the last.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from pool_service.adapters.process.exits import outlasting_shortage
from pool_service.adapters.process.identity import boot_id
from pool_service.adapters.records.namings_file import NamingsFile
from pool_service.adapters.records.record_files import Outcome, RecordFiles
from pool_service.adapters.records.record_format import Entry, Record, record_key
from pool_service.adapters.system.clock import SystemClock
from pool_service.core.server import Exit, LastRun, RecoveredState, Role, Server, ServerId
from pool_service.ports import Clock

_log = structlog.get_logger(__name__)

T = TypeVar("T")

MOST_PASTS = 1000
"""Of so many models without a server the past is kept, of those that were removed last."""


@dataclass(slots=True)
class _Round:
    """What is to be written together, in the order in which it changed first."""

    models: dict[str, None] = field(default_factory=dict)
    namings: bool = False
    check: bool = False
    done: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_wanted(self) -> bool:
        return self.check or self.namings or bool(self.models)


class FileRecords:
    """Implements the port `Records` by files in a state directory.

    boot: names the present boot of the machine; check_interval: seconds between two looks
    whether all is on disk that should be there, and so between two tries where it fails.
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
        self._namings_file = NamingsFile(state_dir)
        self._namings: Mapping[str, str] = {}
        self._known: dict[str, Entry] = {}
        self._keys: dict[ServerId, str] = {}
        self._pasts: dict[str, None] = {}
        self._failed: dict[str, None] = {}
        self._namings_failed = False
        self._next = _Round()
        self._current: _Round | None = None
        self._writer: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trouble = ""
        self._is_proven = False
        self._turned = asyncio.Event()

    @property
    def degraded_reason(self) -> str:
        """Why changes do not reach the disk at present, in words; empty if they do."""
        return self._trouble

    async def wait_for_change(self, *, degraded: bool) -> bool:
        """Wait until being degraded differs from `degraded`; return whether it is so now."""
        while bool(self._trouble) is degraded:
            await self._turned.wait()
        return not degraded

    def put(self, server: Server) -> None:
        """This is now what is known of a server; see the port.

        An orphan is known by its process alone, and needs no record.
        """
        if server.role is Role.ORPHAN:
            return
        key = record_key(server)
        self._forget_key(server, but=key)
        self._keys[server.id] = key
        self._pasts.pop(key, None)
        self._known[key] = server
        self._changed(key)

    def remove(self, server: Server) -> None:
        """A server is gone; of its model's own the past stays, if it ever had a process."""
        self._forget_key(server)
        if server.is_current and (server.latest or server.last_exit):
            past = LastRun(server.model, server.latest, server.last_exit)
            self._remember(past)
            self._changed(server.model)

    def _forget_key(self, server: Server, but: str = "") -> None:
        """Take out what was recorded of a server under another key."""
        key = self._keys.pop(server.id, but)
        known = self._known.get(key)
        if key != but and isinstance(known, Server) and known.id == server.id:
            del self._known[key]
            self._changed(key)

    def put_namings(self, namings: Mapping[str, str]) -> None:
        """These are now all runtime models that callers named; see the port."""
        self._namings = namings
        self._next.namings = True
        self._wake()

    async def settled(self) -> None:
        """Return when everything put so far is on disk, or has failed to get there."""
        # The round that is under way may have begun before the last put.
        waited_for = self._next if self._next.is_wanted else self._current
        if waited_for:
            await waited_for.done.wait()

    async def load(self) -> RecoveredState:
        """Read what an earlier service left; see the port."""
        try:
            found = await outlasting_shortage(lambda: self._in_worker(self._files.read_all))
            named = await outlasting_shortage(lambda: self._in_worker(self._namings_file.read))
        except OSError as error:
            self._tell(self._files.explain(error))
            self._arm()
            return RecoveredState()
        for entry in map(self._as_of_now, found.records):
            self._known[record_key(entry)] = entry
            if isinstance(entry, LastRun):
                self._remember(entry)
            else:
                self._keys[entry.id] = record_key(entry)
        self._arm()
        self._namings = named.namings
        entries = self._known.values()
        return RecoveredState(
            servers=tuple(entry for entry in entries if isinstance(entry, Server)),
            pasts=tuple(entry for entry in entries if isinstance(entry, LastRun)),
            damaged=found.damaged + named.damaged,
            namings=named.namings,
        )

    async def close(self) -> None:
        """Settle, and write nothing any more."""
        await self.settled()
        if self._timer:
            self._timer.cancel()
        await self._in_worker(self._files.close)
        self._worker.shutdown()

    def _as_of_now(self, record: Record) -> Entry:
        """Return what a record says now: of another boot the past alone, as if it ended now."""
        entry = record.entry
        if record.boot_id == self._boot:
            return entry
        end = self._ended_by_now(entry.last_exit)
        return LastRun(entry.model, entry.generation, end, entry.given)

    def _ended_by_now(self, end: Exit | None) -> Exit | None:
        return end and replace(end, at=self._clock.now())

    def _remember(self, past: LastRun) -> None:
        """The newest past; the oldest makes room for it."""
        self._known[past.model] = past
        self._pasts[past.model] = None
        if len(self._pasts) > MOST_PASTS:
            oldest = next(iter(self._pasts))
            del self._pasts[oldest], self._known[oldest]
            self._changed(oldest)

    def _changed(self, model: str) -> None:
        self._next.models[model] = None
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
        # What has failed so far is written first: it has waited longest.
        self._failed |= current.models
        changed = {model: self._known.get(model) for model in self._failed}
        known = dict(self._known)
        # Where nothing is to be written nobody would learn that nothing can be, or can again.
        probe = current.check and not self._is_proven
        try:
            outcome: Outcome = await self._in_worker(
                lambda: self._files.write(changed, known, check=current.check, probe=probe)
            )
            why = await self._in_worker(partial(self._write_namings, current)) or outcome.why
            self._is_proven = not why
            self._failed = dict.fromkeys(outcome.failed)
            self._tell(why)
        finally:
            current.done.set()

    def _write_namings(self, current: _Round) -> str:
        """Write the namings where they are others, or gone; return why that failed, if it did."""
        is_lost = current.check and self._namings and not self._namings_file.is_there()
        if not (current.namings or self._namings_failed or is_lost):
            return ""
        try:
            self._namings_file.write(self._namings)
        except OSError as error:
            self._namings_failed = True
            return self._files.explain(error)
        self._namings_failed = False
        return ""

    async def _in_worker(self, step: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, step)

    def _arm(self) -> None:
        if self._timer:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._check_interval, self._check)

    def _check(self) -> None:
        self._next.check = True
        self._wake()

    def _tell(self, trouble: str) -> None:
        """Logged once when it begins and once when it is over."""
        before, self._trouble = self._trouble, trouble
        if bool(trouble) is not bool(before):
            self._turned.set()
            self._turned = asyncio.Event()
        if trouble and not before:
            _log.warning("records cannot be written", why=trouble)
        elif before and not trouble:
            _log.info("records are written again")
