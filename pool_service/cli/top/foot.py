"""The foot of the screen: more about the chosen row, the results of calls, and the keys."""

from collections.abc import Iterator
from datetime import datetime

from rich.text import Text

from pool_service.cli.columns import shorten
from pool_service.cli.format import human_duration, safe
from pool_service.cli.server_lines import expiry_text, generation_text, label, state_reason
from pool_service.cli.top.canvas import Canvas, fitted, wrapped_lines
from pool_service.cli.top.controls import Controls, Message, Question
from pool_service.cli.top.picture import Picture, Row
from pool_service.core.units import size
from pool_service_client import Description, Holder, Server, ServerRole

_MAX_HOLDERS = 4
_MAX_MESSAGE_LINES = 5
_HIGH = 20
"""Lines of a screen that has room for more than one message."""

_LEAST_NAME = 8
"""Cells that a name has in a question, however narrow the screen is."""

_DETAILS = 3
"""Lines about the chosen row."""

_KEYS = "{arrows} choose  E ensure  e evict  p pin  l logs  d describe  a all  ? help  q quit"


def foot(
    picture: Picture, controls: Controls, row: Row | None, canvas: Canvas, most: int
) -> list[Text]:
    """Return the lines below the table.

    most: lines beyond which messages lose what is in their middle.
    """
    arrows = "↑↓" if canvas.has_symbols else "j/k"
    keys = Text(fitted(_KEYS.format(arrows=arrows), canvas.width), style="dim")
    above = [Text(""), *_details(picture, row, canvas)]
    return [*above, *_news(controls, canvas, most - len(above) - 1), keys]


def _details(picture: Picture, row: Row | None, canvas: Canvas) -> list[Text]:
    """Return three lines about the chosen row: what it is, why it is so, and who wants it."""
    if row is None:
        return []
    described = picture.descriptions.get(row.model)
    server = row.server
    is_current = server is None or server.role is ServerRole.CURRENT
    said = [] if described is None else list(_wanted(described, canvas.now))
    said += [] if described is None or not is_current else list(_fate(described))
    more = ["; ".join(said), state_reason(server) if server is not None else ""]
    first = _facts(server, canvas) if server is not None else f"{row.model}: no server"
    lines = [first, *(f"  {one}" for one in more if one)]
    filler = [""] * (_DETAILS - len(lines))
    return [Text(fitted(safe(line), canvas.width)) for line in (*lines, *filler)]


def _facts(server: Server, canvas: Canvas) -> str:
    """Return what a server is, as far as the table may have no column for it.

    What one copies from here, the endpoint, comes first, and a long name loses its middle for it.
    """
    facts = [server.endpoint] if server.endpoint else []
    facts += [f"on {server.host}"] if server.host else []
    facts.append(f"generation {generation_text(server)}")
    facts += [f"pid {server.pid}"] if server.pid else []
    facts += [f"expires {expiry_text(server, canvas.now)}"] if server.expire_time else []
    text = ", ".join(facts)
    room = max(canvas.width - len(text) - len(": "), canvas.width // 4)
    return f"{shorten(label(server), room, canvas.has_symbols)}: {text}"


def _wanted(described: Description, now: datetime) -> Iterator[str]:
    """Yield who holds a model, and who waits for it."""
    if described.holders:
        shown = [_holder(one, now) for one in described.holders[:_MAX_HOLDERS]]
        more = described.holds - len(shown)
        yield f"held by {', '.join(shown)}" + (f" and {more} more" if more > 0 else "")
    if described.waiting_calls:
        since = next((one.since for one in described.waiting if not one.own), None)
        oldest = f", the oldest for {_ago(since, now)}" if since is not None else ""
        calls = "call waits" if described.waiting_calls == 1 else "calls wait"
        yield f"{described.waiting_calls} {calls}{oldest}"


def _fate(described: Description) -> Iterator[str]:
    """Yield when the current server of a model goes, and what calls for it get if it failed."""
    place = described.eviction_position
    if place:
        freed = next(
            (one.freed_bytes for one in described.next_to_go if one.model == described.model), 0
        )
        frees = f", which frees {size(freed)}" if freed else ""
        of = described.eviction_candidates
        yield f"number {place} of {of} to be stopped for another model{frees}"
    elif described.kept_because:
        yield f"stays: {described.kept_because}"
    if described.failure_message:
        yield f"calls get {described.failure_reason}"


def _holder(one: Holder, now: datetime) -> str:
    name = one.label or "(no label)"
    return f"{name} ({_ago(one.since, now)})" if one.since is not None else name


def _ago(at: datetime, now: datetime) -> str:
    return human_duration((now - at).total_seconds())


def _news(controls: Controls, canvas: Canvas, most: int) -> list[Text]:
    """Return the results of the last calls, and the open question or the calls under way."""
    last: list[Text] = []
    if controls.questions:
        last = list(_question(controls.questions[0], canvas))
    elif controls.calls:
        calls = f"under way: {', '.join(controls.calls)}"
        last = list(_lines(calls, "yellow", canvas, most - 1))
    if not controls.messages:
        return last
    *older, newest = controls.messages
    room = 1 if controls.questions else most - len(last)
    whole = list(_lines(_dated(newest), newest.mark.colour, canvas, room))
    has_room = canvas.height >= _HIGH and len(older) + len(whole) <= room
    return [*(_one_line(one, canvas) for one in older if has_room), *whole, *last]


def _one_line(message: Message, canvas: Canvas) -> Text:
    return Text(fitted(_dated(message), canvas.width), style=message.mark.colour)


def _dated(message: Message) -> str:
    return safe(f"{message.at.astimezone():%H:%M:%S} {message.text}")


def _question(question: Question, canvas: Canvas) -> Iterator[Text]:
    """Yield what is asked, which is never cut, and then why."""
    ask = "Stop {} all the same? (y/n)"
    room = max(canvas.width - len(ask.format("")), _LEAST_NAME)
    model = safe(question.model)
    name = shorten(model, room, canvas.has_symbols)
    why = safe(question.why).replace(model, name).removesuffix(".")
    yield from _lines(f"{ask.format(name)} {why}.", "bold yellow", canvas, _MAX_MESSAGE_LINES)


def _lines(text: str, style: str, canvas: Canvas, most: int) -> Iterator[Text]:
    """Yield a text in a few lines; a longer one loses its middle, as advice stands at its end."""
    lines = wrapped_lines(safe(text), canvas.width, 2)
    most = min(most, _MAX_MESSAGE_LINES)
    if len(lines) > most:
        end = (most - 1) // 2
        cut = [*lines[: most - 1 - end], "  ...", *lines[len(lines) - end :]]
        lines = cut if end > 0 else [safe(text)]
    for line in lines:
        yield Text(fitted(line, canvas.width), style=style)
