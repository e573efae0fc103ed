"""Asks npm's registry about every package in each package-lock.json."""

import json
import tempfile
from pathlib import Path
from typing import Any

from tools import pins
from tools.audit.outcome import Checked, Finding, NotChecked
from tools.pins import ROOT, Pin
from tools.programs import run

LOCKS = ("clients/typescript", "proto", "tests/gateway/programs/node")
KNOWN_BAD = Pin("minimist", "0.0.8")
"""Has had known vulnerabilities since 2020: a registry that tells of none knows nothing."""


def check() -> Checked:
    """Check all locks. Raises NotChecked."""
    if not ask_about(KNOWN_BAD):
        raise NotChecked(f"the registry knows nothing about {' '.join(KNOWN_BAD)}")
    findings: list[Finding] = []
    packages: set[Pin] = set()
    for name in LOCKS:
        packages.update(pins.of_npm_lock(ROOT / name / "package-lock.json"))
        findings += ask(ROOT / name, f"{name}/package-lock.json")
    return Checked(len(packages), tuple(findings))


def ask_about(pin: Pin) -> list[Finding]:
    """Return what is known about one package."""
    project = {"name": "a-try", "version": "0.0.0", "dependencies": dict([pin])}
    package = {"version": pin.version}
    lock = {
        **project,
        "lockfileVersion": 3,
        "packages": {"": project, f"node_modules/{pin.name}": package},
    }
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "package.json").write_text(json.dumps(project))
        (directory / "package-lock.json").write_text(json.dumps(lock))
        return ask(directory, "a try")


def ask(directory: Path, where: str) -> list[Finding]:
    """Return what is known about the packages of the lock in a directory. Raises NotChecked."""
    command = ("npm", "audit", "--json", "--package-lock-only")
    # It exits with 1 for findings and for failures alike.
    done = run(*command, directory=directory, codes=(0, 1))
    report: dict[str, Any] = json.loads(done.stdout)
    if "vulnerabilities" not in report:
        raise NotChecked(report.get("message") or "npm audit reports nothing")
    locked = json.loads((directory / "package-lock.json").read_text())["packages"]
    findings = {
        Finding(where, package["name"], version, (name_of(advisory),), advisory["title"])
        for package in report["vulnerabilities"].values()
        for version in {locked[place]["version"] for place in package["nodes"]}
        for advisory in package["via"]
        # A word names another package, through which this one is affected.
        if not isinstance(advisory, str)
    }
    return sorted(findings)


def name_of(advisory: dict[str, Any]) -> str:
    """Return the advisory's name, which npm has in its address only."""
    return str(advisory["url"].rpartition("/")[2])
