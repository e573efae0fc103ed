"""Each list can be installed, by its hashes, on every machine and Python that are supported."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.install.conftest import LIMIT_S
from tools import setup
from tools.audit.python import lists

pytestmark = pytest.mark.installs

UV = str(Path(sys.executable).with_name("uv"))
# MLX's packages for Linux need the C library of Debian 12 and Ubuntu 22.04.
MACHINES = ("x86_64-manylinux_2_35", "aarch64-manylinux_2_35", "aarch64-apple-darwin")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
OURS = re.compile(
    r"-(?:py3|py2\.py3|cp31[1-4]|cp3\d?-abi3).*-(?:any|.*linux.*(?:x86_64|aarch64)|macosx.*(?:arm64|universal2))\.whl$"
)
OLDEST_MACOS = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}

every_list = pytest.mark.parametrize("path", lists(), ids=lambda path: path.stem)


def uv(*arguments: str | Path) -> None:
    done = subprocess.run(
        [UV, "pip", *arguments, "--no-deps", "--no-config"],
        env={**os.environ, **OLDEST_MACOS},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@every_list
@pytest.mark.parametrize("machine", MACHINES)
def test_there_is_a_wheel_of_each_package(path: Path, machine: str, tmp_path: Path) -> None:
    """Whether the list has its hash is the other test: a dry run fetches no wheel."""
    for python in PYTHONS:
        where = ("--python-platform", machine, "--python-version", python, "--target", tmp_path)
        uv("install", "--dry-run", *setup.OPTIONS[1:], *where, "-r", path)


@every_list
def test_the_list_has_the_hash_of_each_wheel_for_these_machines(path: Path, tmp_path: Path) -> None:
    pins = "\n".join(line for line in path.read_text().split("\n") if re.match(r"\w", line))
    (tmp_path / "pins.txt").write_text(pins.replace("\\", ""))
    lock = tmp_path / "pylock.toml"
    form = ("--universal", "--python-version", PYTHONS[0], "--format", "pylock.toml")
    uv("compile", "--quiet", *form, "--output-file", lock, tmp_path / "pins.txt")
    packages = tomllib.loads(lock.read_text())["packages"]
    files = [file for package in packages for file in package.get("wheels", [])]
    ours = [file for file in files if OURS.search(file["url"])]
    assert len(ours) >= len(packages) > 4
    known = set(re.findall(r"--hash=sha256:(\w+)", path.read_text()))
    assert [file["url"] for file in ours if file["hashes"]["sha256"] not in known] == []
