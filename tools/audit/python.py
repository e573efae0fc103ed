"""Asks OSV by pip-audit about every pinned Python package, for whatever platform it is."""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from tools import pins
from tools.audit.outcome import Checked, Finding, NotChecked
from tools.pins import ROOT, Pin
from tools.programs import run

VENV = ROOT / ".cache/supply-venv"
SETTINGS = {"runtime-excludes", "runtime-overrides"}
KNOWN_BAD = Pin("jinja2", "2.4.1")
"""Has had known vulnerabilities since 2014: a database that tells of none knows nothing."""


def check() -> Checked:
    """Check all lists of `make lock`. Raises NotChecked."""
    run("sh", ROOT / "tools/list_venv.sh", pins.LISTS / "supply.txt", VENV)
    if not ask([KNOWN_BAD], "a try"):
        raise NotChecked(f"the database knows nothing about {' '.join(KNOWN_BAD)}")
    findings: list[Finding] = []
    asked: set[Pin] = set()
    # What is shipped is named before what is only worked with.
    for path in lists():
        new = [pin for pin in pins.of_list(path) if pin not in asked]
        findings += ask(new, str(path.relative_to(ROOT)))
        asked.update(new)
    return Checked(len(asked), tuple(findings))


def lists() -> list[Path]:
    """Return all lists: what users get first."""
    shipped = [pins.LISTS / "service.txt", pins.RUNTIME]
    others = (path for path in sorted(pins.LISTS.glob("*.txt")) if path.stem not in SETTINGS)
    return [*shipped, *(path for path in others if path not in shipped)]


def ask(wanted: Iterable[Pin], where: str) -> list[Finding]:
    """Return what is known about packages. Raises NotChecked unless each was looked up."""
    findings: list[Finding] = []
    layers = one_version_each(wanted)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "list.txt")
        for layer in layers:
            file.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in layer))
            findings += read(pip_audit(file), layer, where)
    return findings


def one_version_each(wanted: Iterable[Pin]) -> list[list[Pin]]:
    """Split pins so that no part has two versions of a package, which pip-audit does not take."""
    layers: list[dict[str, Pin]] = []
    for pin in wanted:
        layer = next((one for one in layers if pin.name not in one), None)
        if layer is None:
            layers.append(layer := {})
        layer[pin.name] = pin
    return [list(layer.values()) for layer in layers]


def pip_audit(file: Path) -> str:
    """Return pip-audit's report on a list that is taken as it is."""
    asked = ("--vulnerability-service", "osv", "--no-deps", "--disable-pip", "-r", file)
    told = ("--format", "json", "--aliases", "on", "--desc", "on", "--progress-spinner", "off")
    # It exits with 1 for findings and for failures alike; only findings come with a report.
    done = run(VENV / "bin/pip-audit", *asked, *told, codes=(0, 1))
    if not done.stdout.strip():
        lines = done.stderr.strip().splitlines() or ["pip-audit reports nothing"]
        raise NotChecked(lines[-1])
    return done.stdout


def read(report: str, wanted: list[Pin], where: str) -> list[Finding]:
    """Return the findings in pip-audit's report. Raises NotChecked if it leaves a package out."""
    looked_up = {}
    for one in json.loads(report)["dependencies"]:
        if "skip_reason" in one:
            raise NotChecked(one["skip_reason"])
        looked_up[one["name"]] = one["vulns"]
    left_out = [pin.name for pin in wanted if pin.name not in looked_up]
    if left_out:
        raise NotChecked(f"pip-audit did not look up {', '.join(left_out)}")
    return [
        Finding(where, *pin, (vuln["id"], *vuln["aliases"]), title_of(vuln["description"]))
        for pin in wanted
        for vuln in looked_up[pin.name]
    ]


def title_of(description: str) -> str:
    """Return the first sentence of an advisory."""
    return description.strip().partition(". ")[0][:120]
