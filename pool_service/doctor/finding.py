"""The result types of all checks."""

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """The meaning of a finding for the service."""

    OK = "ok"
    """The service relies on this, and it is as it should be."""

    INFO = "info"
    """Worth knowing; the service works all the same."""

    WARNING = "warning"
    """The service works, but less well than it could."""

    BROKEN = "broken"
    """The service cannot work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        subject: what was checked, in a word or two.
        verdict: what the finding means for the service.
        found: what was found, on one line.
        remedy: what to do about it; empty if nothing.
    """

    subject: str
    verdict: Verdict
    found: str
    remedy: str = ""


def judge(subject: str, found: str, *, holds: bool, remedy: str) -> Finding:
    """Return a finding that is OK if the check holds, else BROKEN with a remedy."""
    if holds:
        return Finding(subject, Verdict.OK, found)
    return Finding(subject, Verdict.BROKEN, found, remedy)
