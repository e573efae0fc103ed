"""Prints what `pool_service.doctor` finds."""

import os
from pathlib import Path

import click

from pool_service.cli.outcome import ExitCode
from pool_service.cli.text import json_line, safe
from pool_service.doctor import Finding, Verdict, examine

_COLOURS = {
    Verdict.OK: "green",
    Verdict.INFO: "blue",
    Verdict.WARNING: "yellow",
    Verdict.BROKEN: "red",
}
_SUBJECT_WIDTH, _VERDICT_WIDTH = 16, 8


def doctor(config_file: Path | None, *, as_json: bool) -> int:
    """Print a line for each finding as it is found, and return the exit code."""
    broken = 0
    for finding in examine(config_file, os.environ):
        broken += finding.verdict is Verdict.BROKEN
        click.echo(_json(finding) if as_json else _line(finding))
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


def _line(finding: Finding) -> str:
    word = click.style(f"{finding.verdict.name:<{_VERDICT_WIDTH}}", fg=_COLOURS[finding.verdict])
    line = f"{word}{finding.subject:<{_SUBJECT_WIDTH}}  {safe(finding.found)}"
    indent = " " * (_VERDICT_WIDTH + _SUBJECT_WIDTH + 2)
    return line + (f"\n{indent}-> {safe(finding.remedy)}" if finding.remedy else "")


def _conclusion(broken: int) -> str:
    if not broken:
        return "\nThe service can do its job here."
    return f"\nThe service cannot do its job here: put right what is BROKEN ({broken})."
