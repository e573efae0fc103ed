"""The matrix of a run: which scenario held for which client."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

BEGIN, END = "<!-- conformance matrix -->\n", "<!-- end of conformance matrix -->\n"

_MARKS = {"passed": "yes", "failed": "**no**"}


class Report(Protocol):
    """What is used of a pytest.TestReport."""

    @property
    def nodeid(self) -> str: ...

    @property
    def outcome(self) -> str: ...


@dataclass(slots=True)
class Matrix:
    """Rows by area and claim. columns: the keys of the languages, and their titles."""

    columns: dict[str, str] = field(default_factory=dict)
    _cells: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    _outcomes: dict[tuple[str, str, str], str] = field(default_factory=dict)

    def expect(self, nodeid: str, area: str, claim: str, column: str) -> None:
        """A test of this was collected."""
        self._cells[nodeid] = (area, claim, column)

    def note(self, report: Report) -> None:
        """A test has set up, run or cleaned up: the worst of the three is its outcome."""
        cell = self._cells.get(report.nodeid)
        if cell is not None and (report.outcome != "passed" or cell not in self._outcomes):
            self._outcomes[cell] = report.outcome

    @property
    def ran(self) -> bool:
        return bool(self._outcomes)

    def as_markdown(self) -> str:
        """A table for each area; what did not run has no mark."""
        lines: list[str] = []
        last = ""
        for area, claim in dict.fromkeys(cell[:2] for cell in self._cells.values()):
            if area != last:
                lines += ["", *self._head(area)]
                last = area
            marks = [self._mark(area, claim, column) for column in self.columns]
            lines.append(f"| {' | '.join([claim, *marks])} |")
        return "\n".join([*lines[1:], ""])

    def _head(self, area: str) -> Sequence[str]:
        return (
            f"| {' | '.join([area, *self.columns.values()])} |",
            f"|{'---|' * (1 + len(self.columns))}",
        )

    def _mark(self, area: str, claim: str, column: str) -> str:
        return _MARKS.get(self._outcomes.get((area, claim, column), ""), "–")

    def write(self, page: Path) -> None:
        """Between the markers of a page; what is around them stays."""
        before, begin, rest = page.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not begin or not end:
            raise ValueError(f"{page} has no place for the matrix: {BEGIN}and {END}")
        page.write_text(f"{before}{begin}{self.as_markdown()}{end}{after}")
