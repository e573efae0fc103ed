"""Fit tables into a terminal: whole columns go first, then the middle of long names."""

from collections.abc import Sequence

GAP = 2
"""Cells of space between two columns."""


def fitting(
    rows: Sequence[Sequence[str]], width: int, least_important: Sequence[int]
) -> tuple[tuple[int, ...], int]:
    """Return the columns that fit, and how wide the first one may be.

    The first column, which names what a row is about, gets the width that it needs, but not
    more than two fifths of the terminal while another column could be shown instead.

    Args:
        rows: the headings and the cells, as text without control characters.
        width: of the terminal, in cells.
        least_important: columns that may be left out, the first to go first.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = list(range(len(widths)))
    wanted = min(widths[0], max(width * 2 // 5, len(rows[0][0])))
    for column in least_important:
        if wanted + _taken(shown, widths) <= width:
            break
        shown.remove(column)
    return tuple(shown), max(len(rows[0][0]), min(widths[0], width - _taken(shown, widths)))


def _taken(shown: Sequence[int], widths: Sequence[int]) -> int:
    """Return the cells that all columns but the first take, with the gaps before them."""
    return sum(GAP + widths[column] for column in shown[1:])


def cut(text: str, width: int, has_symbols: bool = True) -> str:  # noqa: FBT001, FBT002  # one way
    """Return `text` in at most `width` cells, without its middle if it is longer.

    Names of models begin alike (an organisation) and differ at their ends (a size, a
    quantisation), so the end keeps more than the beginning.
    """
    if len(text) <= width:
        return text
    ellipsis = "…" if has_symbols else ".."
    kept = max(width - len(ellipsis), 0)
    end = kept * 2 // 3
    return text[: kept - end] + ellipsis + text[len(text) - end :]
