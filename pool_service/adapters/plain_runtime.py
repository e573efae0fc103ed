"""What can be said of the end of a runtime of which nothing is known."""

import re
from collections.abc import Sequence

from pool_service.adapters.diagnosis import describe_exit
from pool_service.core.types import Diagnosis

# Of Linux and macOS alike, and node's name for it.
PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE", re.IGNORECASE)

_LONGEST_QUOTE = 300


def quote(line: str) -> str:
    """A line of a program's output, fit to stand in a sentence."""
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[: _LONGEST_QUOTE - 1]}…"


def diagnose(
    code: int | None, signal: int | None, last_lines: Sequence[str]
) -> tuple[Diagnosis, str]:
    """Tell what the end of a process means; a `diagnosis.Diagnose`."""
    taken = next((line for line in reversed(last_lines) if PORT_TAKEN.search(line)), None)
    if code and taken:
        return Diagnosis.PORT_TAKEN, f"The runtime's port was taken: {quote(taken)}"
    last = quote(next((line for line in reversed(last_lines) if line.strip()), ""))
    wrote = f"; the last that it wrote: {last}" if last else ""
    return Diagnosis.CRASHED, f"The runtime {describe_exit(code, signal)}{wrote}"
