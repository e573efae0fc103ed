"""What a check of one language's packages comes to, and which findings are accepted."""

import subprocess
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

LIMIT_S = 900.0
"""After so long a tool hangs: the slowest takes a minute, a network without answers longer."""


class NotChecked(Exception):
    """Why nothing is known about a language's packages, and what to do about it."""


@dataclass(frozen=True, order=True)
class Finding:
    """A known vulnerability.

    where: the list or lock with the package; ids: the advisory's name, then its other names.
    """

    where: str
    package: str
    version: str
    ids: tuple[str, ...]
    title: str

    def __str__(self) -> str:
        names = ", ".join(self.ids)
        return f"{self.package} {self.version} ({self.where}): {names}: {self.title}"


@dataclass(frozen=True)
class Checked:
    """What a database knows about the packages that it was asked for."""

    packages: int
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Accepted:
    """A finding that somebody looked at. until: the day from which it counts again."""

    advisory: str
    why: str
    until: date

    def covers(self, finding: Finding, today: date) -> bool:
        return self.advisory in finding.ids and today < self.until


def read_accepted(path: Path) -> list[Accepted]:
    """Read the accepted findings. Raises ValueError or TypeError if one says too little."""
    entries = tomllib.loads(path.read_text())["accepted"]
    accepted = [Accepted(**entry) for entry in entries]
    for one in accepted:
        if not one.why or type(one.until) is not date:
            raise ValueError(f"{path}: {one.advisory}: say why, and until which day")
    return accepted


def run(
    *command: str | Path,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
    codes: Collection[int] = (0,),
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end.

    Raises NotChecked with the end of what it printed if it is not there, or exits with another
    code than `codes`, or does not end.
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
        raise NotChecked(f"{command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NotChecked(f"{command[0]} did not end within {LIMIT_S:.0f} s") from error
    if done.returncode not in codes:
        raise NotChecked(said(command, done.returncode, done.stderr or done.stdout))
    return done


def said(command: Sequence[str | Path], code: int, text: str) -> str:
    """Return the end of what a failed command printed, under its name."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return "\n".join([f"{Path(command[0]).name} failed (exit code {code}):", *lines[-8:]])
