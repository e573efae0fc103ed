"""How a process ended, in words, as far as any program's exit tells."""

import re
import signal
from collections.abc import Callable, Sequence

from pool_service.core.types import Diagnosis

Diagnose = Callable[[int | None, int | None, tuple[str, ...]], tuple[Diagnosis, str]]
"""Of the exit code, the signal (both None: not known) and the last lines: what it means, in words.
"""


def describe_exit(code: int | None, signal_number: int | None) -> str:
    """The way in which it ended, to follow the name of what ended."""
    if signal_number is not None:
        return f"was ended by {signal_name(signal_number)}"
    if code is not None:
        return f"exited with code {code}"
    return "ended; how is not known, since it was no child of this service"


def signal_name(signal_number: int) -> str:
    """Return the name of a signal, such as SIGKILL; "signal 40" where it has none."""
    try:
        return signal.Signals(signal_number).name
    except ValueError:
        return f"signal {signal_number}"


def diagnose_exit(
    code: int | None,
    signal_number: int | None,
    last_lines: tuple[str, ...],  # noqa: ARG001 - what a runtime prints only its own diagnosis knows
) -> tuple[Diagnosis, str]:
    """Tell what can be said of the end of a program that nothing is known of."""
    return Diagnosis.CRASHED, describe_exit(code, signal_number)


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
