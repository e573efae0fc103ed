"""Checks by govulncheck whether Go modules call anything that is known to be vulnerable."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools import pins
from tools.audit.outcome import Checked, Finding, NotChecked
from tools.pins import ROOT, Pin
from tools.programs import run

GOVULNCHECK = ROOT / ".cache/tools/bin/govulncheck"
MODULES = {
    ROOT / "clients/go": "./...",
    ROOT / "clients/go/examples": "./...",
    ROOT / "clients/go/tools": "tool",
    ROOT / "tests/gateway/programs/go": "./...",
    **{path.parent: "tool" for path in sorted((ROOT / "tools/go").glob("*/go.mod"))},
}
"""The packages that are checked of each module: its own, or those of the tools it pins."""
KNOWN_BAD = Pin("golang.org/x/text", "v0.3.0")
"""Has had known vulnerabilities since 2020: a database that tells of none knows nothing."""
KNOWN_BAD_SUMS = """\
golang.org/x/text v0.3.0 h1:g61tztE5qeGQ89tm6NTjjM9VPIm088od1l6aSorWRWg=
golang.org/x/text v0.3.0/go.mod h1:NqM8EUOU14njkJ3fqMW+pc6Ldnwhi/IjpwHt7yyuwOQ=
"""


def check(database: str | None = None) -> Checked:
    """Check all modules; database: the address of another one. Raises NotChecked."""
    run("sh", ROOT / "tools/go_tools.sh", "govulncheck")
    if not ask_about(KNOWN_BAD, database):
        raise NotChecked(f"the database knows nothing about {' '.join(KNOWN_BAD)}")
    findings: list[Finding] = []
    packages: set[Pin] = set()
    for module, pattern in MODULES.items():
        packages.update(pins.of_go_module(module / "go.mod"))
        where = str(module.relative_to(ROOT) / "go.mod")
        findings += ask(module, where, pattern, "symbol", database)
    return Checked(len(packages), tuple(findings))


def ask_about(pin: Pin, database: str | None) -> list[Finding]:
    """Return what is known about one module, whichever part of it is used."""
    with tempfile.TemporaryDirectory() as name:
        module = Path(name)
        (module / "go.mod").write_text(
            f"module a-try\n\ngo 1.21\n\nrequire {pin.name} {pin.version}\n"
        )
        (module / "go.sum").write_text(KNOWN_BAD_SUMS)
        (module / "try.go").write_text(f'package try\n\nimport _ "{pin.name}/language"\n')
        return ask(module, "a try", "", "module", database)


def ask(module: Path, where: str, pattern: str, level: str, database: str | None) -> list[Finding]:
    """Return the vulnerabilities in what a module requires ("module") or calls ("symbol")."""
    options = ["-C", str(module), "-format", "json", "-scan", level]
    options += ["-db", database] if database else []
    done = run(GOVULNCHECK, *options, *([pattern] if pattern else []))
    advisories: dict[str, dict[str, Any]] = {}
    findings: set[Finding] = set()
    roots: list[str] = []
    for message in messages(done):
        match message:
            case {"osv": {"id": str(name)} as advisory}:
                advisories[name] = advisory
            case {"SBOM": {"roots": [*found]}}:
                roots += found
            case {"finding": {"osv": str(name), "trace": [first, *_]}}:
                # Less exact levels come first, with traces that name no function.
                if level == "module" or "function" in first:
                    advisory = advisories[name]
                    ids = (name, *advisory.get("aliases", []))
                    version = first.get("version", "")
                    title = advisory.get("summary", "")
                    findings.add(Finding(where, first["module"], version, ids, title))
            case _:
                pass
    if level == "symbol" and not roots:
        raise NotChecked(f"govulncheck found no packages in {where}")
    return sorted(findings)


def messages(done: "subprocess.CompletedProcess[str]") -> Iterator[Any]:
    """Return the messages that govulncheck printed one after the other."""
    decoder, rest = json.JSONDecoder(), done.stdout.lstrip()
    while rest:
        message, end = decoder.raw_decode(rest)
        yield message
        rest = rest[end:].lstrip()
