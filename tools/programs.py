"""Runs the programs of other projects that the audit and the bills of materials ask."""

import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tools.pins import ROOT

LIMIT_S = 900.0
"""After so long a program hangs: the slowest takes a minute, a network without answers longer."""


class ProgramFailed(Exception):
    """How a program failed, with the end of what it printed."""


def run(
    *command: str | Path,
    directory: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    codes: Collection[int] = (0,),
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end.

    Raises ProgramFailed if it is not there, does not end, or exits with another code than `codes`.
    """
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except OSError as error:
        raise ProgramFailed(f"{command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ProgramFailed(f"{command[0]} did not end within {LIMIT_S:.0f} s") from error
    if done.returncode not in codes:
        raise ProgramFailed(said(command, done))
    return done


def said(command: Sequence[str | Path], done: "subprocess.CompletedProcess[str]") -> str:
    """Return the end of what a program printed, under its name and its exit code."""
    text = done.stderr.strip() or done.stdout.strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n".join(
        [f"{Path(command[0]).name} failed (exit code {done.returncode}):", *lines[-8:]]
    )
