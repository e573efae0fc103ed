"""Fitting tables into a terminal: drop whole columns first, then the middle of long names."""

from collections.abc import Sequence

GAP = 2
"""Cells between two columns."""


def fit_columns(
    rows: Sequence[Sequence[str]],
    width: int,
    least_important: Sequence[int],
    name_share: float = 0.4,
) -> tuple[tuple[int, ...], int]:
    """Return the indices of the columns that fit, and the width of the first one.

    The first column has the row's name. Other columns are dropped until it has its full width or
    its share of the terminal.

    Args:
        rows: the headings and the cells, as text without control characters.
        width: of the terminal, in cells.
        least_important: indices of the columns that may be dropped, in that order.
        name_share: the share of the terminal's width that a long name gets at least.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    shown = list(range(len(widths)))
    wanted = min(widths[0], max(int(width * name_share), len(rows[0][0])))
    for column in least_important:
        if wanted + _width_of_others(shown, widths) <= width:
            break
        shown.remove(column)
    return tuple(shown), max(
        len(rows[0][0]), min(widths[0], width - _width_of_others(shown, widths))
    )


def _width_of_others(shown: Sequence[int], widths: Sequence[int]) -> int:
    """Return the cells that all columns but the first take, including the gaps before them."""
    return sum(GAP + widths[column] for column in shown[1:])


def shorten(text: str, width: int, has_symbols: bool = True) -> str:  # noqa: FBT001, FBT002  # one way
    """Return `text` in at most `width` cells; a longer text loses its middle.

    The end keeps more than the beginning: model names begin alike (an organisation) and differ at
    the end (a size, a quantisation).
    """
    if len(text) <= width:
        return text
    ellipsis = "…" if has_symbols else ".."
    kept = max(width - len(ellipsis), 0)
    end = kept * 2 // 3
    return text[: kept - end] + ellipsis + text[len(text) - end :]
