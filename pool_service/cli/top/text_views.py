"""The views of text that take the place of the table: a log, a description, the help."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rich.text import Text

from pool_service.cli import description_text
from pool_service.cli.format import safe
from pool_service.cli.log_command import notes
from pool_service.cli.top.canvas import Canvas, chopped, fitted, wrapped_lines
from pool_service_client import Description, LogEnd, LogLines

MAX_LOG_LINES = 2000
"""Lines of a log that can be scrolled to; `pool-service logs --all` shows every line."""

_HELP = """\
up, down, j, k     choose a row; Page Up, Page Down, Home and End, too
E                  ensure: make the model ready
e                  evict: drain and stop the server; asks if it is in use, held, pinned or starting
y                  yes, to a question that is shown; every other key means no
p                  pin, or unpin: neither idleness nor other models stop a pinned server
l                  show what the servers of the model write
d, Enter           describe: all that is known about the model
a                  show models without a server: those of the configuration, or all
q, Escape          go back from a text to the table
Escape             take the messages above the keys away
q                  end; calls that are under way go on where the service has begun with them

The bar has the memory that the servers take, what is reserved beyond that for what they are \
expected to need, and what is left of the memory budget or, without one, of the machine.

MEMORY    what the server takes, and what it is expected to need
USED      when the server was last used; busy: it had requests in flight when last checked
HOLDS     how many callers hold the server, which is then not stopped for others
WAITING   how many calls wait for the server; ?: some may, but only a few models are asked about
EXPIRES   when the server is stopped if it stays unused
NEXT      its place among the servers that would be stopped for another model; >32: behind the \
32nd, choose the row to see it; ?: not known yet

States change on the screen as soon as they change. Memory, use and places are asked for every \
two seconds, less often with more than 50 servers. Looking neither starts a model nor keeps one. \
Text that is pasted does nothing.
"""

_GAP = "  "
"""Separates a key or a heading of the help from its meaning."""


@dataclass(slots=True)
class LogText:
    """The last lines of a log, and notes on the processes that wrote them; each is safe to show."""

    lines: deque[tuple[str, bool]] = field(default_factory=lambda: deque(maxlen=MAX_LOG_LINES))
    """Texts, and whether each is a note."""

    error: str = ""
    width: int = 0
    """The cells that a row of it had last; 0: it was not shown yet."""
    _generation: int | None = None

    def add(self, part: LogLines | LogEnd) -> int:
        """Add a part of the log; return the number of rows that its lines take."""
        added = [(safe(note), True) for note in notes(part, self._generation)]
        if isinstance(part, LogLines):
            added += [(safe(line), False) for line in part.lines]
        self._generation = part.generation
        self.lines.extend(added)
        texts = [text for text, _ in added]
        return sum(1 for _ in chopped(texts, self.width)) if self.width else len(texts)


def log_view(model: str, log: LogText, scroll: int, canvas: Canvas) -> tuple[list[Text], int]:
    """Return the lines of a log's view, and by how many rows it is scrolled from its end."""
    height, log.width = _text_height(canvas) - bool(log.error), canvas.width
    rows: list[Text] = []
    for text, is_note in reversed(log.lines):
        rows += reversed(
            [Text(row, style="blue" if is_note else "") for row in chopped([text], canvas.width)]
        )
        if len(rows) >= height + scroll:
            break
    scroll = max(0, min(scroll, len(rows) - height))
    shown = rows[scroll : scroll + height][::-1]
    title = f"log of {model}" + (f", {scroll} rows above its end" if scroll else "")
    error = [Text(fitted(safe(log.error), canvas.width), style="red")] if log.error else []
    return _view(title, [*shown, *error], canvas), scroll


def description_view(
    model: str, described: Description | str, scroll: int, canvas: Canvas
) -> tuple[list[Text], int]:
    """Return the lines of a description's view, and by how many rows it is scrolled.

    described: a text says why there is no description; empty: it has not come yet.
    """
    if isinstance(described, str):
        lines = [(described or "waiting for the service", 2)]
    else:
        lines = list(description_text.lines(described, canvas.now))
    rows = [
        row for line, indent in lines for row in wrapped_lines(safe(line), canvas.width, indent)
    ]
    return _scrolled(f"description of {model}", rows, scroll, canvas)


def help_view(scroll: int, canvas: Canvas) -> tuple[list[Text], int]:
    """Return the lines of the help, and by how many rows it is scrolled."""
    return _scrolled("help", list(_help_rows(canvas)), scroll, canvas)


def _help_rows(canvas: Canvas) -> Iterator[str]:
    for line in _HELP.splitlines():
        indent = line.rindex(_GAP) + len(_GAP) if _GAP in line else 0
        yield from wrapped_lines(line, canvas.width, indent)


def _scrolled(
    title: str, rows: Sequence[str], scroll: int, canvas: Canvas
) -> tuple[list[Text], int]:
    height = _text_height(canvas)
    scroll = max(0, min(scroll, len(rows) - height))
    shown = [Text(row) for row in rows[scroll : scroll + height]]
    more = len(rows) - scroll - height
    title += f", {more} more rows below" if more > 0 else ""
    return _view(title, shown, canvas), scroll


def _text_height(canvas: Canvas) -> int:
    return max(canvas.height - 2, 1)


def _view(title: str, rows: Sequence[Text], canvas: Canvas) -> list[Text]:
    """Return a view's lines: its title, its rows, and the keys at the bottom."""
    filler = [Text("")] * (canvas.height - 2 - len(rows))
    arrows = "↑↓" if canvas.has_symbols else "j/k"
    keys = Text(fitted(f"q back  {arrows} scroll  Home, End", canvas.width), style="dim")
    return [Text(fitted(safe(title), canvas.width), style="bold"), *rows, *filler, keys]
