"""Prints what `pool_service.doctor` finds."""

import os
import sys
from pathlib import Path

import click

from pool_service.cli.appearance import Mark, marked, tell
from pool_service.cli.exit_codes import ExitCode
from pool_service.cli.format import json_line
from pool_service.doctor import Finding, Verdict, examine

_MARKS = {
    Verdict.OK: Mark.DONE,
    Verdict.INFO: Mark.NOTE,
    Verdict.WARNING: Mark.WARNING,
    Verdict.BROKEN: Mark.BAD,
}
_SUBJECT_WIDTH, _VERDICT_WIDTH = 16, 8


def doctor(config_file: Path | None, *, as_json: bool) -> int:
    """Print a line for each finding as it is found, and return the exit code."""
    broken = 0
    for finding in examine(config_file, os.environ):
        broken += finding.verdict is Verdict.BROKEN
        if as_json:
            click.echo(_json(finding))
        else:
            _tell(finding)
    if not as_json:
        click.echo(_conclusion(broken))
    return ExitCode.FAILURE if broken else ExitCode.OK


def _json(finding: Finding) -> str:
    return json_line(
        subject=finding.subject,
        verdict=finding.verdict,
        found=finding.found,
        remedy=finding.remedy or None,
    )


def _tell(finding: Finding) -> None:
    mark = _MARKS[finding.verdict]
    word = marked(f"{finding.verdict.name:<{_VERDICT_WIDTH}}", mark, sys.stdout)
    indent = len(word) + _SUBJECT_WIDTH + 2
    tell((word, mark), f"{finding.subject:<{_SUBJECT_WIDTH}}  {finding.found}", indent=indent)
    if finding.remedy:
        tell(f"{' ' * indent}-> {finding.remedy}", indent=indent + 3)


def _conclusion(broken: int) -> str:
    if not broken:
        return "\nThe service can do its job here."
    return f"\nThe service cannot do its job here: put right what is BROKEN ({broken})."
