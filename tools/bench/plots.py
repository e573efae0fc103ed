"""Plots as SVG, of colours that can be read on white and on black: the ground stays clear."""

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from tools.bench.report import Curve, Figure, Result, Stages, number

INK = "#7d8590"
COLOURS = ("#3b8eea", "#e07b39", "#2a9d8f", "#b565c9", "#c9a227", "#d8576b")
WIDTH = 8.0
ROW = 0.36
SPREAD = 8
"""From this ratio between the largest and the smallest on, an axis is logarithmic."""

DOTS = 20
"""Of more pairs than that a line shows the range: dots would be a smear, and most of the file."""

PLAIN = FuncFormatter(lambda value, _: f"{value:g}")
"""Never powers of ten."""

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    # The first of the default, which lists eleven in each text of the file.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.alpha": 0.25,
    "grid.color": INK,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    # So that the same data are the same bytes, and text stays text.
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(results: Sequence[Result], directory: Path) -> list[Path]:
    """Write PART.svg for the ratios of each part, PART-curves.svg and PART-stages.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    kinds: tuple[tuple[type[Any], str, Callable[[list[Any]], Canvas]], ...] = (
        (Figure, "", ratios),
        (Curve, "-curves", curves),
        (Stages, "-stages", stages),
    )
    written = []
    with mpl.rc_context(STYLE):
        for kind, ending, plot in kinds:
            ours = [one for one in results if isinstance(one, kind)]
            for part, group in itertools.groupby(ours, lambda one: one.part):
                path = directory / f"{part}{ending}.svg"
                plot(list(group)).savefig(
                    path, transparent=True, bbox_inches="tight", metadata={"Date": None}
                )
                path.write_text(_compact(path.read_text()))
                written.append(path)
    return written


def _compact(svg: str) -> str:
    """Return the plot in half as many bytes: a hundredth of a point is seen by nobody."""
    return re.sub(r"(\.\d\d)\d+", r"\1", re.sub(r"(?m)^ +", "", svg))


def ratios(figures: list[Figure]) -> Canvas:
    """Draw each pair's ratio as a dot over the box of its quartiles; the aim as a mark."""
    figures = [figure for figure in figures if figure.pairs]
    canvas = Canvas(figsize=(WIDTH, ROW * len(figures) + 0.8))
    axes = canvas.subplots()
    all_ratios = [[measured / base for measured, base in one.samples] for one in figures]
    for row, (figure, values) in enumerate(zip(figures, all_ratios, strict=True)):
        colour = COLOURS[0]
        if len(values) <= DOTS:
            axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.35, markersize=4)
        else:
            axes.plot([min(values), max(values)], [row] * 2, color=colour, alpha=0.5, linewidth=1)
        axes.barh(row, figure.high - figure.low, 0.55, figure.low, color=colour, alpha=0.35)
        axes.plot([figure.ratio] * 2, [row - 0.28, row + 0.28], color=colour, linewidth=2)
        if figure.aim is not None:
            axes.plot(figure.aim, row, "|", color=COLOURS[1], markersize=14, markeredgewidth=2)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_yticks(range(len(figures)), [f"{one.name}\nagainst {one.against}" for one in figures])
    axes.tick_params("y", length=0, labelsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the baseline: pairs or range, quartiles, median; orange: the aim")
    _scale(axes, [value for values in all_ratios for value in values])
    return canvas


def curves(drawn: list[Curve]) -> Canvas:
    """Each in axes of its own, two beside each other."""
    columns = min(2, len(drawn))
    rows = -(-len(drawn) // columns)
    canvas = Canvas(figsize=(WIDTH, 2.8 * rows), layout="constrained")
    places = canvas.subplots(rows, columns, squeeze=False).flat
    for axes, curve in itertools.zip_longest(places, drawn):
        if curve is None:
            axes.set_axis_off()
            continue
        for colour, (label, points) in zip(itertools.cycle(COLOURS), curve.lines.items()):
            across, up = zip(*points, strict=True)
            axes.plot(across, up, "o-", color=colour, label=label, markersize=3, linewidth=1.5)
        axes.set(xlabel=curve.x, ylabel=curve.y)
        axes.set_title(curve.plot, fontsize=8)
        axes.grid(visible=True)
        if len(curve.lines) > 1:
            axes.legend(fontsize=8)
        if curve.log_x:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(PLAIN)
            axes.xaxis.set_minor_locator(NullLocator())
        if curve.log_y:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(PLAIN)
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(bottom=0)
            axes.yaxis.set_major_locator(MaxNLocator(4))
    return canvas


def stages(drawn: list[Stages]) -> Canvas:
    """A stacked bar for each; what belongs together stands in one group."""
    canvas = Canvas(figsize=(WIDTH, ROW * len(drawn) + 1.2))
    axes = canvas.subplots()
    axes.margins(x=0.1)
    names = list(drawn[0].seconds)
    for row, one in enumerate(drawn):
        left = 0.0
        for name, colour in zip(names, itertools.cycle(COLOURS)):
            seconds = one.seconds[name]
            label = name if row == 0 else None
            axes.barh(row, seconds, 0.7, left, color=colour, label=label)
            left += seconds
        axes.text(left, row, f"  {number(left)} s", va="center", fontsize=8)
    axes.set_yticks(range(len(drawn)), [f"{one.plot}, {one.name}" for one in drawn])
    axes.tick_params("y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel("seconds, medians")
    axes.legend(ncols=len(names), loc="lower left", bbox_to_anchor=(0, 1), fontsize=8)
    return canvas


def _scale(axes: Axes, values: list[float]) -> None:
    axes.grid(visible=True, axis="x")
    if max(values) > SPREAD * min(values):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(PLAIN)
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda _value, _: ""))
    else:
        axes.set_xlim(left=min(0, *values))
