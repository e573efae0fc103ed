"""The recent changes of state, for the timeline of the page."""

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pool_service import event_records
from pool_service.adapters.event_log.event_reader import read_events
from pool_service.core.commands import Publish
from pool_service.core.server import Phase
from pool_service.rpc.wire import state_name

KEPT = 4096
"""Changes that are kept; one start makes six."""

Event = Mapping[str, Any]

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
        self._changes: deque[str] = deque(maxlen=KEPT)
        self._count = 0
        self._began_at = datetime.now(UTC)
        self._earlier: asyncio.Task[list[str]] | None = None

    def observe(self, change: Publish) -> None:
        """Keep a change, if the state has changed; for the pool."""
        if _state(change.before) != ("" if change.removed else _state(change.server.phase)):
            now = datetime.now(UTC)
            self._changes.append(_json(event_records.transition(change), now))
            self._count += 1

    async def as_json(self, cursor: str) -> str:
        """Return the changes after a cursor, the oldest first, as a JSON object with the next one.

        It has the Unix time in seconds, too, at which this service began.

        cursor: empty, or of another service: all changes are returned, and `whole` is true.
        """
        new = self._new_since(cursor)
        # Before the await: what comes while the disk is read comes with the next cursor.
        next_cursor = f"{self._began_at.isoformat()}/{self._count}"
        whole, present = new is None, list(self._changes)
        if new is None:
            present = [*await self._before(), *present][-KEPT:]
        else:
            present = present[len(present) - new :]
        return (
            f'{{"changes": [{", ".join(present)}], "whole": {json.dumps(whole)}, '
            f'"cursor": {json.dumps(next_cursor)}, "began": {self._began_at.timestamp()}}}'
        )

    def _new_since(self, cursor: str) -> int | None:
        """Return the number of changes after a cursor; None if not all of them are known."""
        began, _, count = cursor.partition("/")
        # The length first: Python refuses to convert thousands of digits.
        is_count = len(count) <= MAX_DIGITS and count.isascii() and count.isdigit()
        if began != self._began_at.isoformat() or not is_count:
            return None
        new = self._count - int(count)
        return new if 0 <= new <= len(self._changes) else None

    async def _before(self) -> list[str]:
        """Return the changes that earlier services have made; they are read once.

        A reading that fails is begun again by the next one who asks.
        """
        if self._earlier is None or _has_failed(self._earlier):
            self._earlier = asyncio.ensure_future(
                asyncio.to_thread(_read_earlier, self._state_dir, self._began_at)
            )
        return await asyncio.shield(self._earlier)


def _has_failed(task: "asyncio.Task[list[str]]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _read_earlier(state_dir: Path, before: datetime) -> list[str]:
    """Return the changes that earlier services have kept on disk; none if they cannot be read."""
    try:
        return list(deque(_read(state_dir, before), maxlen=KEPT))
    except OSError:
        return []


def _read(state_dir: Path, before: datetime) -> Iterator[str]:
    since = (before - timedelta(seconds=KEPT_S)).isoformat()
    for event in read_events(state_dir):
        if event is None or event.get("kind") != "transition":
            continue
        # An event of another version may be of another form.
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            if since <= event["ts"] < before.isoformat() and _changes_state(event):
                yield _json(event, datetime.fromisoformat(event["ts"]))


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
