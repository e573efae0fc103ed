"""The bill of the Go client, by cyclonedx-gomod."""

import json
import os
import shutil
import tempfile
from pathlib import Path

from tools import pins
from tools.pins import ROOT
from tools.programs import run
from tools.sbom.form import Bill, check, in_form

CLIENT = ROOT / "clients/go"
GOMOD = ROOT / ".cache/tools/bin/cyclonedx-gomod"
PLATFORM = {"GOOS": "linux", "GOARCH": "amd64", "CGO_ENABLED": "0"}
"""One for all machines that make the bill; the client has no files for others."""


def bill(version: str) -> Bill:
    """Return the bill of what the client's packages import, without its tests."""
    run("sh", ROOT / "tools/go_tools.sh", "cyclonedx-gomod")
    environment = {**os.environ, **PLATFORM}
    with tempfile.TemporaryDirectory() as place:
        # Away from Git, of which the tool would take a version of its own.
        directory = Path(place, "go")
        leave = shutil.ignore_patterns("build", "examples", "tools")
        shutil.copytree(CLIENT, directory, ignore=leave)
        options = ("-json", "-noserial", "-notimestamp", "-short-purls", "-type", "library")
        done = run(GOMOD, "mod", *options, directory=directory, environment=environment)
        imported = ("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./...")
        needed = run(*imported, directory=directory, environment=environment).stdout.split()
    made: Bill = json.loads(done.stdout)
    check(made, [pin for pin in pins.of_go_module(CLIENT / "go.mod") if pin.name in needed])
    module = made["metadata"]["component"]
    module["purl"] += f"@v{version}"
    return in_form(made, str(module["name"]), f"v{version}")
