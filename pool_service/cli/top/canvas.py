"""The canvas: the size of the screen, the time, and fitting text into it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from rich.cells import cell_len, chop_cells, set_cell_size

from pool_service.cli.appearance import wrapped


@dataclass(frozen=True, slots=True)
class Canvas:
    """Holds the size in cells that a part of the screen is drawn for, and the time."""

    width: int
    height: int
    now: datetime
    has_symbols: bool = True


def fitted(text: str, width: int) -> str:
    """Return one line of text in at most `width` cells; a longer text loses its end."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(width - 2, 0)).rstrip() + ".."[:width]


def wrapped_lines(text: str, width: int, indent: int) -> list[str]:
    """Return a text in lines of at most `width` cells, between words where that is possible."""
    between_words = wrapped(text, width, indent).split("\n")
    return list(chopped(between_words, width))


def chopped(texts: Iterable[str], width: int) -> Iterator[str]:
    """Yield texts in lines of at most `width` cells, wherever that is."""
    for text in texts:
        if cell_len(text) <= width:
            yield text
        else:
            yield from chop_cells(text, max(width, 2))
