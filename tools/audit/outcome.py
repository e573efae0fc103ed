"""What a check of one language's packages comes to, and which findings are accepted."""

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path


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
