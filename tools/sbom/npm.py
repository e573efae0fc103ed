"""The bill of the TypeScript client, by npm."""

import json
import shutil
import tempfile
from pathlib import Path

from tools import pins
from tools.pins import ROOT
from tools.programs import run
from tools.sbom.form import Bill, BillError, check, in_form

CLIENT = ROOT / "clients/typescript"


def bill(name: str, version: str) -> Bill:
    """Return the bill of what the package needs when it runs."""
    check_npm()
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        copy_package(directory)
        options = ("--sbom-format", "cyclonedx", "--sbom-type", "library")
        done = run("npm", "sbom", "--package-lock-only", *options, directory=directory)
    made: Bill = json.loads(done.stdout)
    check(made, pins.of_npm_lock(CLIENT / "package-lock.json", only_shipped=True))
    return in_form(made, name, version)


def check_npm() -> None:
    """Raise BillError without an npm that makes bills: Debian's of 2023 does not."""
    version = run("npm", "--version").stdout.strip()
    if tuple(int(part) for part in version.split(".")[:2]) < (10, 3):
        raise BillError(f"npm {version} makes no bills: install npm 10.3 or later")


def copy_package(directory: Path) -> None:
    """Copy package and lock without what only development needs.

    npm's own option for that leaves out also what is needed by both.
    """
    package = json.loads((CLIENT / "package.json").read_text())
    lock = json.loads((CLIENT / "package-lock.json").read_text())
    del package["devDependencies"], lock["packages"][""]["devDependencies"]
    lock["packages"] = {place: one for place, one in lock["packages"].items() if not one.get("dev")}
    (directory / "package.json").write_text(json.dumps(package))
    (directory / "package-lock.json").write_text(json.dumps(lock))
    shutil.copy(CLIENT / ".npmrc", directory)
