"""Which Python the set-up takes, and what it says when there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "tools/find_python.sh"

pytestmark = pytest.mark.process


def find_python(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False
    )


def python(directory: Path, name: str, *, new: bool) -> None:
    """A program that answers the one question asked of it."""
    script = directory / name
    script.write_text(
        f"#!/bin/sh\n[ $1 = --version ] && echo Python X && exit\nexit {int(not new)}\n"
    )
    script.chmod(0o755)


def test_the_named_one_is_taken() -> None:
    found = find_python(PYTHON=sys.executable)
    assert (found.returncode, found.stdout) == (0, f"{sys.executable}\n")


@pytest.mark.parametrize("name", ["/bin/false", "/nowhere/python"])
def test_the_named_one_must_do(name: str) -> None:
    found = find_python(PYTHON=name, PATH=os.environ["PATH"])
    assert found.returncode == 1
    assert f"PYTHON={name} is not a Python 3.11 or later" in found.stderr


def test_an_old_python3_is_passed_over(tmp_path: Path) -> None:
    python(tmp_path, "python3", new=False)
    python(tmp_path, "python3.12", new=True)
    assert find_python(PATH=str(tmp_path)).stdout == "python3.12\n"


def test_what_was_found_is_named_if_it_will_not_do(tmp_path: Path) -> None:
    python(tmp_path, "python3", new=False)
    found = find_python(PATH=str(tmp_path))
    assert found.returncode == 1
    assert "Python 3.11 or later is needed, and Python X was found" in found.stderr
    assert "make PYTHON=" in found.stderr
