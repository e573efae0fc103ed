"""What came of a part of the test suite, and the summary of all of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tests.run.parts import Form, Part

NO_TEST_CHOSEN = 5
"""pytest's exit code where what a person asked for leaves nothing of a part."""

WIDTH = 88


@dataclass(slots=True)
class Outcome:
    """What came of a part.

    failed: names of tests; left_out: how many tests by the reason they gave; trouble: why the
    part as a whole did not run, or did not end as it should.
    """

    part: Part
    seconds: float = 0.0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    trouble: str = ""
    is_red: bool = False

    def add(self, code: int, report: Path | None) -> None:
        """Add the exit code of one of the part's commands, and pytest's report if it wrote one."""
        if report is not None and report.exists():
            self._read(report)
        if code not in (0, NO_TEST_CHOSEN):
            self.is_red = True
            if not self.failed:
                self.trouble = f"exit code {code}"

    def _read(self, report: Path) -> None:
        # Written by our own pytest a moment ago.
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
            if case.find("failure") is not None or case.find("error") is not None:
                self.failed.append(name)
            elif (skipped := case.find("skipped")) is not None:
                self.left_out[skipped.get("message", "")] += 1
            else:
                self.passed += 1


def _tests(count: int) -> str:
    return "test" if count == 1 else "tests"


def duration(seconds: float) -> str:
    """Return a time as minutes and seconds, such as 4:05."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def summary(outcomes: Sequence[Outcome], parts: Sequence[Part]) -> str:
    """Return what is said at the end: a line a part, what failed, and what was left out.

    parts: all that were to run; those without an outcome did not come to it.
    """
    lines = ["", "─" * WIDTH, f"{'part':14}{'passed':>8}{'failed':>8}{'left out':>10}{'min':>8}"]
    for one in outcomes:
        left_out = one.left_out.total()
        counts = f"{one.passed:8}{len(one.failed):8}{left_out:10}{duration(one.seconds):>8}"
        lines.append(f"{one.part.name:14}{counts}  {one.trouble}".rstrip())
    failed = [name for one in outcomes for name in one.failed]
    lines += ["", "failed:", *(f"  {name}" for name in failed)] if failed else []
    reasons = sum((one.left_out for one in outcomes), Counter[str]())
    spared = [f"  {reason} ({count} {_tests(count)})" for reason, count in reasons.most_common()]
    spared += [f"  {part.name}: interrupted" for part in parts[len(outcomes) :]]
    if Form.LONG not in {part.form for part in parts}:
        spared.append("  the long form, which `make test-all` runs")
    lines += ["", "left out:", *spared] if spared else []
    red = [one.part.name for one in outcomes if one.is_red]
    ran = f"{sum(one.passed for one in outcomes)} tests passed"
    verdict = f"failed: {', '.join(red)}" if red else ran
    lines += ["", f"{verdict}, in {duration(sum(one.seconds for one in outcomes))} min"]
    return "\n".join(lines)
