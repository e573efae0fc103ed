"""What a benchmark finds, with its spread and its raw samples."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Pair = tuple[float, float]
"""What was measured, and its baseline beside it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity against its baseline; without pairs: it could not be measured.

    measured, baseline: medians, in `unit`; ratio: the median of the ratios of the pairs
    that were measured in turn; low, high: the quartiles of these ratios; over: the median of
    the differences, in `unit`. aim, aim_over, aim_itself: what the ratio, the difference and
    what was measured should not exceed, if there is an aim.
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
    over: float
    pairs: int
    aim: float | None = None
    aim_over: float | None = None
    aim_itself: float | None = None
    samples: tuple[Pair, ...] = ()

    @property
    def is_missed(self) -> bool:
        """Whether it has an aim that it does not reach."""
        found = (self.ratio, self.aim), (self.over, self.aim_over), (self.measured, self.aim_itself)
        return any(aim is not None and value > aim for value, aim in found)


@dataclass(frozen=True, slots=True)
class Curve:
    """How a cost grows: a plot of its own, named by `plot`.

    x, y: what the axes say, with the unit; lines: points (x, y) by what they are of.
    """

    part: str
    plot: str
    x: str
    y: str
    lines: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time of one kind of run goes: medians in seconds, in their order.

    plot: those with the same one stand side by side; rounds: raw, one mapping a run.
    """

    part: str
    plot: str
    name: str
    seconds: Mapping[str, float]
    rounds: tuple[Mapping[str, float], ...] = ()


Result = Figure | Curve | Stages

NOT_MEASURED = "not measured"


def compare(
    part: str,
    name: str,
    against: str,
    pairs: Sequence[Pair],
    *,
    unit: str = "ms",
    aim: float | None = None,
    aim_over: float | None = None,
    aim_itself: float | None = None,
) -> Figure:
    """The figure of pairs (measured, baseline), each pair measured one after the other."""
    low, middle, high = quartiles([measured / baseline for measured, baseline in pairs])
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
        over=statistics.median(measured - baseline for measured, baseline in pairs),
        pairs=len(pairs),
        aim=aim,
        aim_over=aim_over,
        aim_itself=aim_itself,
        samples=tuple(pairs),
    )


def not_measured(part: str, name: str, against: str) -> Figure:
    """The row of what could not be measured here. against: says why."""
    return Figure(
        part=part,
        name=name,
        against=against,
        unit="",
        measured=0.0,
        baseline=0.0,
        ratio=0.0,
        low=0.0,
        high=0.0,
        over=0.0,
        pairs=0,
    )


def stages(part: str, plot: str, name: str, rounds: Sequence[Mapping[str, float]]) -> Stages:
    """The medians of runs that have the same stages, in seconds."""
    seconds = {stage: statistics.median(one[stage] for one in rounds) for stage in rounds[0]}
    return Stages(part, plot, name, seconds, tuple(rounds))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def table(figures: Sequence[Figure]) -> str:
    """All figures as a Markdown table."""
    head = [
        "| what | against | measured | baseline | ratio (quartiles) | difference | aim | pairs |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *map(_row, figures)])


def _row(figure: Figure) -> str:
    if not figure.pairs:
        return f"| {figure.name} | {figure.against} | {NOT_MEASURED} | - | - | - | - | 0 |"
    cells = (
        figure.name,
        figure.against,
        f"{number(figure.measured)} {figure.unit}",
        f"{number(figure.baseline)} {figure.unit}",
        f"**{figure.ratio:.3f}** ({figure.low:.3f}-{figure.high:.3f})",
        f"{signed(figure.over)} {figure.unit}",
        _aim(figure),
        f"{figure.pairs}",
    )
    return f"| {' | '.join(cells)} |"


def number(value: float) -> str:
    """Three digits that say something, without an exponent."""
    if value == 0 or not 1e-4 <= abs(value) < 1e9:
        return f"{value:.3g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{float(f'{mantissa}e{exponent}'):,.{max(0, 2 - int(exponent))}f}"


def signed(value: float) -> str:
    """The same, of a difference."""
    return ("" if value < 0 else "+") + number(value)


def _aim(figure: Figure) -> str:
    aims = []
    if figure.aim is not None:
        aims.append(f"≤ {figure.aim:g}")
    if figure.aim_over is not None:
        aims.append(f"≤ {signed(figure.aim_over)} {figure.unit}")
    if figure.aim_itself is not None:
        aims.append(f"itself ≤ {number(figure.aim_itself)} {figure.unit}")
    if not aims:
        return "-"
    return " and ".join(aims) + (", missed" if figure.is_missed else "")
