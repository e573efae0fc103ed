"""Runs parts of the test suite one after the other, and says at the end what came of each.

    python -m tests.run short            what `make test` runs
    python -m tests.run short long       what `make test-all` runs
    python -m tests.run core -- -k name  one part, with arguments for pytest

A part that fails does not keep the next ones from running. Exit codes: 0 all passed; 1 a part
failed; 2 the command line is not valid; 130 interrupted.
"""

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.run.outcome import Outcome, duration, summary
from tests.run.parts import PARTS, Command, Form, Part
from tests.toolchain import trouble_with

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / ".cache/tests"

QUIET_LIMIT_S = 8.0
"""After so long without any output a line says that the part goes on."""

TICK_S = 0.5
"""How often it is looked whether a command that prints nothing has ended."""

CLEANING_UP_S = 60.0
"""How long an interrupted command may take to end by itself."""


def chosen(names: Sequence[str]) -> list[Part] | None:
    """Return the parts of these names and forms, in their order; None if one is unknown."""
    known = {part.name for part in PARTS} | set(Form)
    if not names or not known.issuperset(names):
        return None
    return [part for part in PARTS if part.name in names or part.form in names]


def run(part: Part, extra: Sequence[str]) -> Outcome:
    """Run a part, with `extra` arguments for pytest, and return what came of it."""
    outcome = Outcome(part)
    print(f"\n━━ {part.name}: {part.about}", flush=True)
    troubles = [trouble for program in part.needs if (trouble := trouble_with(program))]
    if troubles:
        outcome.trouble = f"left out: {', '.join(troubles)}"
        # Where nothing may be left out.
        outcome.is_red = bool(os.environ.get("CI"))
        return outcome
    began = time.monotonic()
    for number, command in enumerate(part.commands):
        report = REPORTS / f"{part.name}-{number}.xml" if command.is_pytest else None
        words = command.words if report is None else with_report(command, report, extra)
        outcome.add(shown(part.name, words, began), report)
        outcome.seconds = time.monotonic() - began
    return outcome


def with_report(command: Command, report: Path, extra: Sequence[str]) -> tuple[str, ...]:
    """Return pytest's command line so that it writes what came of each test into `report`."""
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    colours = ["--color=yes"] if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else []
    return (*command.words, f"--junitxml={report}", *colours, *extra)


def shown(name: str, words: Sequence[str], began: float) -> int:
    """Run a command, show what it prints and that it goes on, and return its exit code."""
    process = subprocess.Popen(
        words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        show_output(name, process, began)
        return process.wait()
    except KeyboardInterrupt:
        # The terminal interrupted the command too: it cleans up what it started.
        process.wait(CLEANING_UP_S)
        raise
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def show_output(name: str, process: subprocess.Popen[bytes], began: float) -> None:
    """Copy the output of a command to our own until it ends."""
    assert process.stdout is not None
    out, is_line_open, heard = sys.stdout.buffer, False, time.monotonic()
    while True:
        has_ended = process.poll() is not None
        if select.select([process.stdout], [], [], TICK_S)[0]:
            text = os.read(process.stdout.fileno(), 65536)
            if not text:
                return
            is_line_open = not text.endswith(b"\n")
        elif has_ended:
            # Something that it left behind holds its output open.
            return
        elif time.monotonic() - heard >= QUIET_LIMIT_S:
            line = f"… {name} goes on, {duration(time.monotonic() - began)} min\n"
            text = ("\n" * is_line_open + line).encode()
            is_line_open = False
        else:
            continue
        heard = time.monotonic()
        out.write(text)
        out.flush()


def main(arguments: Sequence[str]) -> int:
    """Run what the command line names; see the top of this file."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    parts, extra = chosen(arguments[:end]), arguments[end + 1 :]
    if parts is None:
        known = ", ".join([*Form, *(part.name for part in PARTS)])
        print("usage: python -m tests.run PART... [-- PYTEST_ARGUMENT...]", file=sys.stderr)
        print(f"Say which of these: {known}", file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    try:
        outcomes.extend(run(part, extra) for part in parts)
    except KeyboardInterrupt:
        print(summary(outcomes, parts))
        print("tests: interrupted", file=sys.stderr)
        # Make was interrupted too, ends as such, and would add a line for any other code.
        return 0 if "MAKELEVEL" in os.environ else 130
    print(summary(outcomes, parts))
    return int(any(one.is_red for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
