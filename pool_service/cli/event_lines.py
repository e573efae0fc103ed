"""The lines of `events`: which events are shown, and how they read."""

import os
import sys
from collections import deque
from collections.abc import Collection, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from pool_service.adapters.event_log.event_reader import Event, read_events
from pool_service.adapters.event_log.event_reader import as_json as json_of
from pool_service.cli.appearance import Mark, has_symbols, print_line
from pool_service.cli.exit_codes import ExitCode, Failure, config_failure
from pool_service.cli.state_directory import absolute_directory
from pool_service.config import ConfigError, load
from pool_service.core.units import size

DEFAULT_LINES = 100
"""Events that are shown unless the user says which."""

_STATES = {
    "PREPARING": "STARTING",
    "SPAWNING": "STARTING",
    "CLEANING_UP": "STOPPING",
}
"""The states on the wire of those phases that have another name there."""

_STATE_MARKS = {
    "READY": Mark.GOOD,
    "QUEUED": Mark.WAITING,
    "STARTING": Mark.UNDER_WAY,
    "STOPPING": Mark.UNDER_WAY,
    "BACKING_OFF": Mark.WAITING,
    "FAILED": Mark.BAD,
}


@dataclass(frozen=True, slots=True)
class Selection:
    """The events to show; None: without that limit. names: of one model, any of them."""

    since: datetime | None
    until: datetime | None
    names: Collection[str] | None

    def has(self, event: Event) -> bool:
        """Return whether an event is to be shown."""
        at = _time(event)
        if at is None or (self.since and at < self.since) or (self.until and at > self.until):
            return False
        if self.names is None or event.get("kind") == "lost":
            return True
        affected = event.get("models")
        about = [event.get(key) for key in ("model", "alias", "preemptor")]
        about += affected if isinstance(affected, list) else []
        return any(name in self.names for name in about)


def place_and_names(
    config_file: Path | None, given: str | None, model: str | None
) -> tuple[Path, Collection[str] | None]:
    """Return the state directory, and the names of a model: the one given, and what it stands for.

    The directory is the one given, else that of the configuration, which is not read without need.
    """
    names = None if model is None else {model}
    if given is not None and config_file is None:
        return absolute_directory(given), names
    try:
        config = load(config_file, {}, os.environ)
    except ConfigError as error:
        raise config_failure(error) from error
    if model is not None:
        names = {model, config.catalogue.resolve(model)}
    return absolute_directory(given) if given is not None else config.service.state_dir, names


def print_events(
    directory: Path, selection: Selection, lines: int | None, *, follow: bool, as_json: bool
) -> None:
    """Print the selected events of a state directory, the last `lines` of them (None: all)."""
    printer = _Printer(as_json=as_json)
    is_empty = True
    with closing(_selected(directory, selection, lines, follow=follow, as_json=as_json)) as found:
        for event in found:
            is_empty = False
            printer.show(event)
    if is_empty:
        _report_none(directory)


def _selected(
    directory: Path, selection: Selection, lines: int | None, *, follow: bool, as_json: bool
) -> Generator[Event]:
    """Yield the last `lines` selected events so far, then, with `follow`, each new one."""
    kept: deque[Event] = deque(maxlen=lines)
    is_past = True
    with closing(read_events(directory, follow=follow)) as found:
        for event in found:
            if event is None:
                is_past = False
                yield from kept
                kept.clear()
            elif selection.has(event) and (as_json or line_of(event, "")):
                if is_past:
                    kept.append(event)
                else:
                    yield event


def _report_none(directory: Path) -> None:
    if not directory.is_dir():
        raise Failure(
            f"there is no state directory {directory}: no service has run with it. Give the one of "
            "your service by --state-dir, or its configuration by --config",
            ExitCode.FAILURE,
        )
    click.echo("there are no such events", err=True)


class _Printer:
    """Prints events, for people with a heading for each day."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._day = ""
        self._arrow = "→" if has_symbols(sys.stdout) else "->"

    def show(self, event: Event) -> None:
        if self._as_json:
            click.echo(json_of(event))
            return
        at, parts = _time(event), line_of(event, self._arrow)
        if at is None or not parts:
            return
        local = at.astimezone()
        if (day := f"{local:%A %Y-%m-%d}") != self._day:
            self._day = day
            print_line(day)
        print_line(f"{local:%H:%M:%S}  ", *parts, indent=10)


Parts = tuple[str | tuple[str, Mark], ...]


def line_of(event: Event, arrow: str) -> Parts:
    """Return the parts of an event's line without its time; none if it says nothing to people."""
    match event.get("kind"):
        case "transition":
            return _transition(event, arrow)
        case "call":
            return (_call(event),)
        case "service":
            why = f" ({event['why']})" if event.get("why") else ""
            return (f"the service has {event.get('what')}{why}",)
        case "lost":
            return ((f"{event.get('lines')} events were lost", Mark.WARNING),)
        case kind:
            # Of a newer service.
            return (f"{kind}: {json_of(event)}",)


def _transition(event: Event, arrow: str) -> Parts:
    before, after = _state(event.get("before"), "new"), _state(event.get("after"), "gone")
    end = event.get("exit")
    before_role = str(event.get("before_role") or "").lower()
    if before == after and not (end or before_role):
        return ()
    name = event.get("model") or "(orphan)"
    role = str(event.get("role", "CURRENT")).lower()
    is_of_role = before == after and before_role
    beside = "" if is_of_role or role in {"current", "orphan"} else f", {role}"
    which = f"{name} ({event.get('generation')}{beside}): "
    why = _why(event)
    if is_of_role:
        return (f"{which}{before_role} {arrow} {role}{f', {why}' if why else ''}",)
    if before == after:
        return (f"{which}{why}",)
    mark = _STATE_MARKS.get(after, Mark.NOTE)
    return f"{which}{before} {arrow} ", (after, mark), f", {why}" if why else ""


def _state(phase: Any, absent: str) -> str:  # noqa: ANN401  # of a file that anything wrote
    return absent if phase is None else _STATES.get(str(phase), str(phase))


def _why(event: Event) -> str:
    """Return why a server changed: for whom it goes, how its process ended, or its detail."""
    if event.get("preemptor"):
        needed = event.get("needed_bytes")
        needs = f", which needs {size(needed)}" if isinstance(needed, int) else ""
        return f"for {event['preemptor']}{needs}"
    end = event.get("exit")
    if isinstance(end, dict):
        cause = str(end.get("cause", "")).lower().replace("_", " ")
        return f"its process has ended: {cause}: {end.get('message')}"
    return str(event.get("why", ""))


def _call(event: Event) -> str:
    who = event.get("principal") or _caller(str(event.get("peer", "")))
    name = event.get("model") or event.get("target")
    target = f" {name}" if name else ""
    target += f" (as {event['alias']})" if event.get("alias") else ""
    method = str(event.get("method", "")).lower()
    # The event is the last of those that were counted.
    others = event["repeated"] - 1 if isinstance(event.get("repeated"), int) else 0
    more = f" (and {others} more like it)" if others > 0 else ""
    said = ": ".join(str(event[key]) for key in ("reason", "why") if event.get(key))
    by = f" by {who}" if who else ""
    return f"{method}{target}{by}: {said or 'done'}{more}"


def _caller(peer: str) -> str:
    """Return a caller's address in words."""
    if peer.startswith("unix"):
        return "a program on this machine"
    return peer.partition(":")[2] if peer.startswith(("ipv4:", "ipv6:")) else peer


def _time(event: Event) -> datetime | None:
    try:
        at = datetime.fromisoformat(event["ts"])
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
