"""Diagnosis of exits: why a process ended, for any program but vllm-mlx (`vllm_mlx.py`)."""

import re
import signal
from collections.abc import Callable, Sequence

from pool_service.core.types import Diagnosis

Diagnose = Callable[[int | None, int | None, tuple[str, ...]], tuple[Diagnosis, str]]
"""Explains an exit by its code, its signal (both None: not known) and the last lines of the log.

Returns the diagnosis, and an explanation for people. Its period is optional, since
`core/error_texts.py` quotes the explanation within a sentence.
"""


def describe_exit(code: int | None, signal_number: int | None) -> str:
    """Return how a process ended, as the predicate of a sentence: "exited with code 1"."""
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
    last_lines: tuple[str, ...],  # noqa: ARG001 - part of `Diagnose`
) -> tuple[Diagnosis, str]:
    """Explain an exit by code and signal alone; a `Diagnose` for runtimes of an unknown kind."""
    return Diagnosis.CRASHED, describe_exit(code, signal_number)


# The text of Linux and macOS, and the name that node prints.
PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE", re.IGNORECASE)

_MAX_QUOTE_CHARS = 300


def quote(line: str) -> str:
    """Return a line of a program's output with single spaces, shortened for use in a sentence."""
    line = " ".join(line.split())
    return line if len(line) <= _MAX_QUOTE_CHARS else f"{line[: _MAX_QUOTE_CHARS - 1]}…"


def diagnose(
    code: int | None, signal_number: int | None, last_lines: Sequence[str]
) -> tuple[Diagnosis, str]:
    """Explain the exit of a runtime of the kind "plain"; a `Diagnose`."""
    taken = next((line for line in reversed(last_lines) if PORT_TAKEN.search(line)), None)
    if code and taken:
        return Diagnosis.PORT_TAKEN, f"The runtime's port was taken: {quote(taken)}"
    last = quote(next((line for line in reversed(last_lines) if line.strip()), ""))
    wrote = f"; the last that it wrote: {last}" if last else ""
    return Diagnosis.CRASHED, f"The runtime {describe_exit(code, signal_number)}{wrote}"
