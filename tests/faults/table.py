"""The table of a run: each fault, its outcome, and the time until all was whole again."""

import contextlib
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Recovery:
    """The times that a test took to recover, in seconds, and figures in words."""

    seconds: list[float] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)

    def note(self, seconds: float) -> None:
        """From the fault until all was whole again."""
        self.seconds.append(seconds)

    def figure(self, words: str) -> None:
        """Something else that was measured."""
        self.figures.append(words)

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Begins at the fault; its body returns when all is whole again."""
        began = time.monotonic()
        yield
        self.note(time.monotonic() - began)

    def __str__(self) -> str:
        words = [_spread(self.seconds)] if self.seconds else []
        return "; ".join([*words, *self.figures])


@dataclass(slots=True)
class Row:
    """One test."""

    fault: str
    bench: str
    claim: str
    outcome: str = ""
    recovery: Recovery = field(default_factory=Recovery)


class Report(Protocol):
    """What is used of a pytest.TestReport."""

    @property
    def nodeid(self) -> str: ...

    @property
    def outcome(self) -> str: ...


class Table:
    """The rows by the tests, in the order in which they are to run."""

    def __init__(self) -> None:
        self._expected: dict[str, Row] = {}

    def expect(self, nodeid: str, fault: str, bench: str) -> None:
        """A test of this fault was collected."""
        self._expected[nodeid] = Row(fault, bench, _claim_of(nodeid))

    def recovery_of(self, nodeid: str) -> Recovery:
        """Where this test notes its times."""
        return self._expected[nodeid].recovery

    def note(self, report: Report) -> None:
        """A test has set up, run or cleaned up: the worst of the three is its outcome."""
        row = self._expected.get(report.nodeid)
        if row is not None and (report.outcome != "passed" or not row.outcome):
            row.outcome = report.outcome

    @property
    def rows(self) -> list[Row]:
        """Those that ran."""
        return [row for row in self._expected.values() if row.outcome]

    def as_text(self) -> str:
        """For a terminal."""
        lines = [["fault", "what happens", "bench", "outcome", "recovery"], *self._cells()]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        )

    def as_markdown(self) -> str:
        """For the documentation."""
        head = ["| fault | what happens | bench | outcome | time to recover |"]
        lines = [f"| {' | '.join(cells)} |" for cells in self._cells()]
        return "\n".join([*head, "|---|---|---|---|---|", *lines, ""])

    def _cells(self) -> list[list[str]]:
        return [[r.fault, r.claim, r.bench, r.outcome, str(r.recovery)] for r in self.rows]


def _claim_of(nodeid: str) -> str:
    """Return the claim of a test: its name, in words."""
    name = nodeid.partition("::")[2].partition("[")[0]
    return name.removeprefix("test_").replace("_", " ")


def _spread(seconds: Sequence[float]) -> str:
    if len(seconds) < 3:
        return ", ".join(f"{one:.3g} s" for one in seconds)
    ranked = sorted(seconds)
    p99 = ranked[math.ceil(len(ranked) * 0.99) - 1]
    return f"{statistics.median(ranked):.3g} s (p99 {p99:.3g} s, {len(ranked)} times)"
