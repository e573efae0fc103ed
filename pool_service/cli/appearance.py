"""Output with colours and symbols, where the stream can show them."""

import os
import sys
import textwrap
from collections.abc import Mapping
from enum import Enum
from typing import TextIO

import click

from pool_service.cli.format import safe

_FORCING_VARIABLES = ("FORCE_COLOR", "CLICOLOR_FORCE")
_LOCALE_VARIABLES = ("LC_ALL", "LC_CTYPE", "LANG")
_DEFAULT_WIDTH = 80
_ASCII_LOCALES = frozenset({"C", "POSIX"})


class Mark(Enum):
    """The kind of a message: its colour, and its symbol where the terminal can show it."""

    GOOD = ("green", "●")
    UNDER_WAY = ("yellow", "◐")
    WAITING = ("yellow", "○")
    BAD = ("red", "✗")
    NOTE = ("blue", "·")
    DONE = ("green", "✓")
    WARNING = ("yellow", "!")

    @property
    def colour(self) -> str:
        """The name of the colour in click and rich."""
        return self.value[0]

    @property
    def symbol(self) -> str:
        """The symbol, one cell wide."""
        return self.value[1]


def is_coloured(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether output to a stream has colours.

    1. No, if NO_COLOR is set to anything.
    2. Yes, if FORCE_COLOR or CLICOLOR_FORCE is set to anything but 0.
    3. Otherwise yes on a terminal that is not a dumb one.
    """
    if environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in {"", "0"} for name in _FORCING_VARIABLES):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def has_symbols(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream is a terminal that can show characters beyond ASCII.

    Looks at the locale's variables, since Python writes UTF-8 even in the C locale.
    """
    if not stream.isatty() or environment.get("TERM") == "dumb":
        return False
    locale = next((environment[name] for name in _LOCALE_VARIABLES if environment.get(name)), "")
    try:
        "".join(mark.symbol for mark in Mark).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return locale not in _ASCII_LOCALES


def with_symbol(word: str, mark: Mark, stream: TextIO) -> str:
    """Return a word with its symbol before it, if the stream has symbols."""
    return f"{mark.symbol} {word}" if has_symbols(stream) else word


def print_line(*parts: str | tuple[str, Mark], err: bool = False, indent: int = 4) -> None:
    """Print a line from parts, with control characters escaped and parts with a mark coloured.

    On a terminal a line that is too long is wrapped between words.

    Args:
        parts: texts, and texts with marks; a marked text must not occur earlier in the line.
        err: print to standard error.
        indent: spaces before each continuation line.
    """
    stream = sys.stderr if err else sys.stdout
    coloured = is_coloured(stream)
    line = "".join(safe(part if isinstance(part, str) else part[0]) for part in parts)
    line = wrapped(line, _width(stream), indent) if stream.isatty() else line
    for part in parts if coloured else ():
        if not isinstance(part, str):
            line = line.replace(safe(part[0]), click.style(safe(part[0]), fg=part[1].colour), 1)
    click.echo(line, err=err, color=coloured)


def _width(stream: TextIO) -> int:
    """Return the width of a terminal in cells; the default if the terminal does not report it."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _DEFAULT_WIDTH
    except (OSError, ValueError):
        return _DEFAULT_WIDTH


def wrapped(line: str, width: int, indent: int) -> str:
    """Return a line wrapped between words at `width` cells; longer words stay whole."""
    if len(line) <= width:
        return line
    lines = textwrap.wrap(
        line,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return "\n".join(lines)


def warn(message: str) -> None:
    """Print a warning on standard error."""
    print_line(("warning:", Mark.WARNING), f" {message}", err=True)
