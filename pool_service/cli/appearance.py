"""Decides where the output has colours and symbols, and writes it so."""

import os
import sys
import textwrap
from collections.abc import Mapping
from enum import Enum
from typing import TextIO

import click

from pool_service.cli.format import safe

_FORCING = ("FORCE_COLOR", "CLICOLOR_FORCE")
_LOCALE = ("LC_ALL", "LC_CTYPE", "LANG")
_USUAL_WIDTH = 80
_ASCII_LOCALES = frozenset({"C", "POSIX"})


class Mark(Enum):
    """A thing that has a colour, and a symbol where the terminal can show it."""

    GOOD = ("green", "●")
    UNDER_WAY = ("yellow", "◐")
    WAITING = ("yellow", "○")
    BAD = ("red", "✗")
    NOTE = ("blue", "·")
    DONE = ("green", "✓")
    WARNING = ("yellow", "!")

    @property
    def colour(self) -> str:
        """The name of the colour, as click and rich have it."""
        return self.value[0]

    @property
    def symbol(self) -> str:
        """A symbol that takes one cell."""
        return self.value[1]


def is_coloured(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether what is written to a stream has colours.

    1. Not where NO_COLOR is set to anything.
    2. Where FORCE_COLOR or CLICOLOR_FORCE is set to anything but 0.
    3. Else on a terminal that is not a dumb one.
    """
    if environment.get("NO_COLOR"):
        return False
    if any(environment.get(name, "0") not in {"", "0"} for name in _FORCING):
        return True
    return stream.isatty() and environment.get("TERM") != "dumb"


def has_symbols(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream is a terminal that shows other characters than those of ASCII.

    Python writes UTF-8 even where the locale is C, so that the locale is asked itself.
    """
    if not stream.isatty() or environment.get("TERM") == "dumb":
        return False
    locale = next((environment[name] for name in _LOCALE if environment.get(name)), "")
    try:
        "".join(mark.symbol for mark in Mark).encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return locale not in _ASCII_LOCALES


def marked(word: str, mark: Mark, stream: TextIO) -> str:
    """Return a word behind its symbol, if the stream has symbols."""
    return f"{mark.symbol} {word}" if has_symbols(stream) else word


def tell(*parts: str | tuple[str, Mark], err: bool = False, indent: int = 4) -> None:
    """Print parts of a line, those with a mark in its colour, safely for a terminal.

    On a terminal a line that is too long goes on below, between words.

    Args:
        parts: texts, and texts with marks, which may not occur before in the line.
        err: whether it goes to standard error.
        indent: spaces before what goes on below.
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
    """Return the cells of a terminal's line; one that does not say has as many as most."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH


def wrapped(line: str, width: int, indent: int) -> str:
    """Return a line broken between words where it is longer than `width`; words stay whole."""
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
    tell(("warning:", Mark.WARNING), f" {message}", err=True)
