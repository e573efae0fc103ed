"""Writes what was found: as JSON, as plots, and between the markers of the page."""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.bench import growth, machine, plots
from tools.bench.report import Curve, Figure, Pair, Result, Stages, number, signed, table

KINDS: dict[str, type[Figure] | type[Curve] | type[Stages]] = {
    "figures": Figure,
    "curves": Curve,
    "stages": Stages,
}
GROWS = "size"
"""The part whose figures say how a cost grows."""
PLOTS = ("cold-stages.svg", "size-curves.svg", "replacement.svg")
"""Those on the page, beside it in a directory of its name: they show what no table does."""

DIGITS = 5
"""Significant ones of a sample: what a clock is worth, and a file that can be read."""


@dataclass(frozen=True, slots=True)
class Run:
    """All that one run found. machine: what it was measured on."""

    machine: dict[str, str]
    results: Sequence[Result]

    def of(self, part: str) -> list[Figure]:
        """The figures of a part."""
        return [one for one in self.results if isinstance(one, Figure) and one.part == part]

    @property
    def parts(self) -> list[str]:
        """The names of the parts that were measured, in their order."""
        return list(dict.fromkeys(result.part for result in self.results))


def save(run: Run, path: Path) -> None:
    """Write the run as JSON, raw samples included."""
    document: dict[str, Any] = {"machine": run.machine}
    for name, kind in KINDS.items():
        document[name] = [asdict(one) for one in run.results if isinstance(one, kind)]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(document), indent=1, ensure_ascii=False)
    # A pair stays on its line.
    text = re.sub(r"\[\s+([^][{}]+?),\s+([^][{},]+?)\s+\]", r"[\1, \2]", text)
    path.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> Run:
    """The run that was written there."""
    document = json.loads(path.read_text(encoding="utf-8"))
    results: list[Result] = []
    for one in document["figures"]:
        samples = tuple(_pair(pair) for pair in one.pop("samples"))
        results.append(Figure(**one, samples=samples))
    for one in document["curves"]:
        lines = {name: tuple(map(_pair, points)) for name, points in one.pop("lines").items()}
        results.append(Curve(**one, lines=lines))
    results += [Stages(**one | {"rounds": tuple(one["rounds"])}) for one in document["stages"]]
    return Run(document["machine"], results)


def publish(run: Run, page: Path, directory: Path) -> None:
    """Write the tables between the page's markers, its plots beside it, and all into a directory.

    Raises ValueError if the page has no marker for a part.
    """
    text = page.read_text(encoding="utf-8")
    for part in run.parts:
        if figures := run.of(part):
            text = _between(text, part, table(figures))
    text = _between(text, "machine", machine.line(run.machine))
    text = _between(text, "missed", _missed(run))
    beside = page.with_suffix("")
    beside.mkdir(exist_ok=True)
    for plot in draw(run, directory):
        if plot.name in PLOTS:
            shutil.copy(plot, beside)
    page.write_text(text, encoding="utf-8")


def draw(run: Run, directory: Path) -> list[Path]:
    """Write the plots of a run; returns where they are."""
    grown = growth.curves(run.of(GROWS))
    return plots.draw([*run.results, *grown], directory)


def _missed(run: Run) -> str:
    missed = [
        f"- {one.name}, against {one.against}: {number(one.measured)} {one.unit}, {one.ratio:.3f}, "
        f"{signed(one.over)} {one.unit}"
        for one in run.results
        if isinstance(one, Figure) and one.is_missed
    ]
    return "\n".join(missed or ["None of them did."])


def _between(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page must have {begin} and {end} once each")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    return f"{head}{begin}\n{content}\n{end}{tail}"


def _pair(values: Sequence[float]) -> Pair:
    first, second = values
    return first, second


def _rounded(value: Any) -> Any:  # noqa: ANN401  # whatever JSON can be
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value
