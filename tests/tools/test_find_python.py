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


def python(directory: Path, name: str, prelude: str = "") -> None:
    """A Python that first does as it is told, so that it is another one on another machine."""
    script = directory / name
    quoted = prelude.replace("'", "'\\''")
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{quoted}'\"\n$2\"\n")
    script.chmod(0o755)


def version(major: int, minor: int) -> str:
    return f"import sys; sys.version_info = ({major}, {minor})"


def mac(machine: str, release: str) -> str:
    return (
        "import platform, sys; sys.platform = 'darwin'; sys.version_info = (3, 12); "
        f"platform.machine = lambda: '{machine}'; platform.mac_ver = lambda: ('{release}', (), '')"
    )


def test_the_named_one_is_taken() -> None:
    found = find_python(PYTHON=sys.executable)
    assert (found.returncode, found.stdout) == (0, f"{sys.executable}\n")


@pytest.mark.parametrize("name", ["/bin/false", "/bin/true", "/nowhere/python"])
def test_the_named_one_must_do(name: str) -> None:
    found = find_python(PYTHON=name, PATH=os.environ["PATH"])
    assert (found.returncode, found.stdout) == (1, "")
    assert f"PYTHON={name} will not do: it is " in found.stderr


@pytest.mark.parametrize(
    "prelude", [version(3, 9), version(3, 15), mac("x86_64", "15.1"), mac("arm64", "13.5")]
)
def test_one_that_will_not_do_is_passed_over(tmp_path: Path, prelude: str) -> None:
    python(tmp_path, "python3", prelude)
    python(tmp_path, "python3.12", mac("arm64", "14.0"))
    assert find_python(PATH=str(tmp_path)).stdout == "python3.12\n"


@pytest.mark.parametrize(
    ("prelude", "told"),
    [
        (version(3, 9), "python3: Python 3.9 is too old: 3.11 to 3.14"),
        (version(3, 15), "python3: Python 3.15 is too new: 3.11 to 3.14"),
        (mac("x86_64", "15.1"), "python3: Python 3.12 is a program for Intel processors"),
        (mac("arm64", "13.5"), "python3: macOS 13.5 is too old: macOS 14 or later"),
    ],
)
def test_what_was_found_is_named_if_it_will_not_do(tmp_path: Path, prelude: str, told: str) -> None:
    python(tmp_path, "python3", prelude)
    found = find_python(PATH=str(tmp_path))
    assert (found.returncode, found.stdout) == (1, "")
    assert told in found.stderr
    assert "make PYTHON=" in found.stderr
