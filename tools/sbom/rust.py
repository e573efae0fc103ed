"""The bill of the Rust client, by cargo-cyclonedx.

A library has no lock: the bill names the versions that a build in this clone uses, which in a fresh
one are the newest that Cargo.toml allows.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from tools import pins
from tools.pins import ROOT
from tools.programs import run
from tools.sbom.form import Bill, check, in_form

CLIENT = ROOT / "clients/rust"
PROGRAMS = ROOT / ".cache/tools/bin"


def bill(name: str, version: str) -> Bill:
    """Return the bill of the crate, for all platforms, without its tests and examples."""
    run("sh", ROOT / "tools/cargo_tools.sh", "cargo-cyclonedx")
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place).resolve()
        copy_crate(directory)
        options = ("--format", "json", "--target", "all", "--spec-version", "1.5")
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "0"}
        program = (PROGRAMS / "cargo-cyclonedx", "cyclonedx", *options)
        run(*program, "--override-filename", "bill", directory=directory, environment=environment)
        # In the place of the directory's own name, which is another each time.
        text = (directory / "bill.json").read_text().replace(directory.as_uri(), "file://.")
        pinned = pins.of_cargo_lock(directory / "Cargo.lock")
    made: Bill = json.loads(text)
    check(made, pinned)
    return in_form(made, name, version)


def copy_crate(directory: Path) -> None:
    """Copy what is shipped of the crate, with a lock of just what that needs."""
    manifest = (CLIENT / "Cargo.toml").read_text()
    manifest = re.sub(r"(?m)^members = .*$", "members = []", manifest)
    manifest = re.sub(r"(?ms)^\[dev-dependencies\].*?(?=^\[|^#)", "", manifest)
    (directory / "Cargo.toml").write_text(manifest)
    shutil.copytree(CLIENT / "src", directory / "src")
    shutil.copy(CLIENT / "README.md", directory)
    if (CLIENT / "Cargo.lock").exists():
        shutil.copy(CLIENT / "Cargo.lock", directory)
    # Drops from the lock what is not needed here, and keeps the versions of the rest.
    run("cargo", "update", "--quiet", "--workspace", directory=directory)
