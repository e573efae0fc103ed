"""The command `doctor`: prints the findings of `pool_service.doctor`."""

import os
import sys
from pathlib import Path

import click

from pool_service.cli.appearance import Mark, print_line, with_symbol
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
    """Print each finding as soon as it is there, and return the exit code."""
    broken = 0
    for finding in examine(config_file, os.environ):
        broken += finding.verdict is Verdict.BROKEN
        if as_json:
            click.echo(_json(finding))
        else:
            _print_finding(finding)
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


def _print_finding(finding: Finding) -> None:
    mark = _MARKS[finding.verdict]
    word = with_symbol(f"{finding.verdict.name:<{_VERDICT_WIDTH}}", mark, sys.stdout)
    indent = len(word) + _SUBJECT_WIDTH + 2
    print_line((word, mark), f"{finding.subject:<{_SUBJECT_WIDTH}}  {finding.found}", indent=indent)
    if finding.remedy:
        print_line(f"{' ' * indent}-> {finding.remedy}", indent=indent + 3)


def _conclusion(broken: int) -> str:
    if not broken:
        return "\nThe service can work on this machine."
    return f"\nThe service cannot work on this machine: repair what is BROKEN ({broken})."
