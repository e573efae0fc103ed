"""The recent changes of state, for the timeline of the page."""

import asyncio
import json
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from pool_service.adapters.event_log.event_reader import read_events
from pool_service.core.commands import Publish
from pool_service.core.server import Phase
from pool_service.rpc.wire import state_name
from pool_service.transition_record import transition

KEPT = 4096
"""Changes that are kept; one start makes six."""

Event = Mapping[str, Any]

Key = tuple[str, int] | tuple[str, int, str]
"""The model and the generation of a server, and its host in a fleet."""

KEPT_S = 86_400
"""The age in seconds up to which changes of earlier services are read from the disk."""


MAX_DIGITS = 18
"""The digits of a count in a cursor."""


class RecentChanges:
    """Keep the changes of state of this service, and read those before it from its events.

    They are kept as JSON, so that a page which asks for all holds up nobody.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._record = Record()
        self._earlier: asyncio.Task[Record] | None = None

    def observe(self, change: Publish) -> None:
        """Keep a change, if the state has changed; for the pool."""
        if _state(change.before) != ("" if change.removed else _state(change.server.phase)):
            self._record.add(transition(change), datetime.now(UTC))

    async def as_json(self, cursor: str) -> str:
        """Return the changes after a cursor, the oldest first, as a JSON object with the next one.

        cursor: empty, or of another service: all changes are returned, and `whole` is true.

        It has Unix times in seconds, too: that of now, when this service began (`began`), and with
        all changes since when none is missing (`since`). Of the time before that, there is the last
        change of each server that is still there.
        """
        answer = self._record.after(cursor)
        # If changes of this service are missing, those before them tell nothing.
        if answer.is_whole and answer.since is None:
            earlier = await self._before()
            answer.changes = earlier.all(self._record.present) + answer.changes
            answer.since = earlier.since or self._record.began_at.timestamp()
        return answer.as_json()

    async def _before(self) -> "Record":
        """Return the changes that earlier services have made; they are read once.

        A reading that fails is begun again by the next one who asks.
        """
        if self._earlier is None or _has_failed(self._earlier):
            self._earlier = asyncio.ensure_future(
                asyncio.to_thread(_read_earlier, self._state_dir, self._record.began_at)
            )
        return await asyncio.shield(self._earlier)


def _has_failed(task: "asyncio.Task[Record]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


@dataclass(slots=True)
class Answer:
    """The changes after a cursor, as JSON each, and the next cursor.

    is_whole: the cursor was none of this record, so these are all changes. began_at: when the
    record began, in Unix seconds. since: see `Record`; None also for those after a cursor.
    """

    changes: list[str]
    is_whole: bool
    cursor: str
    began_at: float
    since: float | None

    def as_json(self) -> str:
        """Return it as a JSON object, with the Unix time of now."""
        more = {
            "whole": self.is_whole,
            "cursor": self.cursor,
            "began": self.began_at,
            "since": self.since,
            "now": datetime.now(UTC).timestamp(),
        }
        return f'{{"changes": [{", ".join(self.changes)}], {json.dumps(more)[1:]}'


class Record:
    """The last KEPT changes, and of those before the last one of each server that is still there.

    count: the changes there were. since: the Unix time in seconds since when none is missing; None:
    none is. began_at: when the record was made.
    """

    def __init__(self) -> None:
        self.began_at = datetime.now(UTC)
        self.count = 0
        self.since: float | None = None
        self._ring: deque[tuple[float, str]] = deque(maxlen=KEPT)
        self._newest: dict[Key, tuple[int, str]] = {}

    @property
    def present(self) -> Collection[Key]:
        """The servers that are there."""
        return self._newest.keys()

    def add(self, event: Event, at: datetime, *, is_old: bool = False) -> None:
        """Keep a transition. Raises KeyError if it is of another form.

        is_old: only as the last change of its server.
        """
        text, key = _json(event, at), (event["model"], event["generation"])
        self.keep(text, key, at.timestamp(), is_there=bool(event["after"]), is_old=is_old)

    def keep(self, text: str, key: Key, at: float, *, is_there: bool, is_old: bool = False) -> None:
        """Keep a change of a server as JSON. at: its Unix time in seconds.

        is_there: the server is there after it. is_old: as for `add`.
        """
        # At the end again: they are in the order of their times.
        self._newest.pop(key, None)
        if not is_old:
            if len(self._ring) == KEPT:
                self.since = self._ring[1][0]
            self._ring.append((at, text))
            self.count += 1
        if is_there:
            self._newest[key] = 0 if is_old else self.count, text

    def after(self, cursor: str) -> Answer:
        """Return the changes after a cursor, or all of them if it is none of this record."""
        began, _, count = cursor.partition("/")
        # The length first: Python refuses to convert thousands of digits.
        is_count = len(count) <= MAX_DIGITS and count.isascii() and count.isdigit()
        is_ours = began == self.began_at.isoformat() and is_count
        new = self.count - int(count) if is_ours else -1
        is_whole = not 0 <= new <= len(self._ring)
        return Answer(
            self.all() if is_whole else self.last(new),
            is_whole,
            f"{self.began_at.isoformat()}/{self.count}",
            self.began_at.timestamp(),
            self.since if is_whole else None,
        )

    def all(self, present: Collection[Key] | None = None) -> list[str]:
        """Return all changes that are kept, the oldest first.

        present: the servers that are still there; None: those that the changes tell of.
        """
        missing = self.count - len(self._ring)
        before = [
            text
            for key, (number, text) in self._newest.items()
            if number <= missing and (present is None or key in present)
        ]
        return before + [text for _, text in self._ring]

    def last(self, number: int) -> list[str]:
        """Return the last changes, the oldest first."""
        return [text for _, text in islice(self._ring, len(self._ring) - number, None)]


def _read_earlier(state_dir: Path, before: datetime) -> Record:
    """Return the changes that earlier services have kept on disk; none if they cannot be read."""
    try:
        return _read(state_dir, before)
    except OSError:
        return Record()


def _read(state_dir: Path, before: datetime) -> Record:
    record, since = Record(), before - timedelta(seconds=KEPT_S)
    for event in read_events(state_dir):
        if event is None:
            continue
        # An event of another version may be of another form.
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            at = datetime.fromisoformat(event["ts"])
            if at >= before:
                continue
            if record.since is None:
                record.since = max(at, since).timestamp()
            if event["kind"] == "transition" and _changes_state(event):
                record.add(event, at, is_old=at < since)
    return record


def _changes_state(event: Event) -> bool:
    return _state_of(event, "before") != _state_of(event, "after")


def _json(event: Event, at: datetime) -> str:
    """Return a transition as the page reads it. Raises KeyError if it is of another form.

    state: as on the wire, empty once the server is gone. cause: why its process ends, as in
    `Exit.cause`, and empty otherwise; preemptor: the model that it makes room for.
    """
    exited = event.get("exit") or {}
    return json.dumps(
        {
            "model": event["model"],
            "generation": event["generation"],
            "state": _state_of(event, "after"),
            "at": at.timestamp(),
            "why": event.get("why") or exited.get("message", ""),
            "cause": event.get("cause") or exited.get("cause", ""),
            "preemptor": event.get("preemptor", ""),
        }
    )


def _state_of(event: Event, key: str) -> str:
    """Return a phase of an event as the name of its state. Raises KeyError."""
    return _state(Phase[event[key]] if event[key] else None)


def _state(phase: Phase | None) -> str:
    return state_name(phase) if phase else ""
