"""Figures with their spread, and how they are shown."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity against its baseline.

    measured, baseline: medians, in `unit`; ratio: the median of the ratios of the pairs
    that were measured in turn; low, high: the quartiles of these ratios; aim: what the
    ratio should not exceed, if there is an aim.
    """

    part: str
    name: str
    against: str
    unit: str
    measured: float
    baseline: float
    ratio: float
    low: float
    high: float
    pairs: int
    aim: float | None = None


def compare(
    part: str,
    name: str,
    against: str,
    pairs: Sequence[tuple[float, float]],
    *,
    unit: str = "ms",
    aim: float | None = None,
) -> Figure:
    """The figure of pairs (measured, baseline), each pair measured one after the other."""
    ratios = [measured / baseline for measured, baseline in pairs]
    low, middle, high = _quartiles(ratios)
    return Figure(
        part=part,
        name=name,
        against=against,
        unit=unit,
        measured=statistics.median(measured for measured, _ in pairs),
        baseline=statistics.median(baseline for _, baseline in pairs),
        ratio=middle,
        low=low,
        high=high,
        pairs=len(pairs),
        aim=aim,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def table(figures: Sequence[Figure]) -> str:
    """All figures as a Markdown table."""
    rows = [
        "| what | against | measured | baseline | ratio (quartiles) | aim | pairs |",
        "|---|---|---|---|---|---|---|",
    ]
    for figure in figures:
        aim = "-" if figure.aim is None else f"≤ {figure.aim:g}"
        rows.append(
            f"| {figure.name} | {figure.against} | {figure.measured:.3g} {figure.unit} "
            f"| {figure.baseline:.3g} {figure.unit} "
            f"| **{figure.ratio:.3f}** ({figure.low:.3f}-{figure.high:.3f}) "
            f"| {aim} | {figure.pairs} |"
        )
    return "\n".join(rows)


def save(figures: Sequence[Figure], path: Path) -> None:
    """Write the figures, and what they were measured on, as JSON."""
    machine = {"system": platform.platform(), "python": platform.python_version()}
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
