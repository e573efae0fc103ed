"""How a cost grows, out of figures that differ in a number only."""

import re
from collections.abc import Sequence

from tools.bench.report import Curve, Figure

ASIDE = re.compile(r" \([^)]*\)")
LAST_NUMBER = re.compile(r"\b(\d[\d,]*)\b(?!.*\b\d)")
ONE = "one "
FEWEST_SIZES = 3
"""A line between two says no more than the table."""


def curves(figures: Sequence[Figure]) -> list[Curve]:
    """A curve for each kind of figure that was measured at several sizes.

    The size is the last number of a figure's name; its baseline is a point too where that
    names a number, or "one".
    """
    found: dict[tuple[str, str, str], dict[float, float]] = {}
    for figure in figures:
        plain = ASIDE.sub("", figure.name)
        size = _size(plain)
        if size is None:
            continue
        kind = LAST_NUMBER.sub("N", plain)
        points = found.setdefault((figure.part, kind, figure.unit), {})
        points[size] = figure.measured
        base = _size(figure.against)
        if base is not None:
            points.setdefault(base, figure.baseline)
    return [
        Curve(part, kind, "N", unit, {kind: tuple(sorted(points.items()))}, log_x=True)
        for (part, kind, unit), points in found.items()
        if len(points) >= FEWEST_SIZES
    ]


def _size(text: str) -> float | None:
    number = LAST_NUMBER.search(text)
    if number:
        return float(number[1].replace(",", ""))
    return 1.0 if text.startswith(ONE) else None
