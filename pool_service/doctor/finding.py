"""Define what a check returns."""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """Tell how a finding matters to the service."""

    OK = "ok"
    """The service relies on it, and it holds."""

    INFO = "info"
    """Worth knowing; the service works all the same."""

    WARNING = "warning"
    """The service works, but less well than it could."""

    BROKEN = "broken"
    """The service cannot do its main job."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold what was found out about one thing.

    Attributes:
        subject: what was looked at, in a word or two.
        verdict: what it means for the service.
        found: what was found, in a line.
        remedy: what to do about it; empty where nothing is to be done.
    """

    subject: str
    verdict: Verdict
    found: str
    remedy: str = ""


def judge(subject: str, found: str, *, holds: bool, remedy: str) -> Finding:
    """Return OK with what was found, or BROKEN with the remedy as well."""
    if holds:
        return Finding(subject, Verdict.OK, found)
    return Finding(subject, Verdict.BROKEN, found, remedy)
