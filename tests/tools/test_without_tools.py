"""What the scripts say on a machine that lacks what they need."""

import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

pytestmark = pytest.mark.process


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with the plainest programs only."""
    for name in ("dirname", "id"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    return tmp_path


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("go_tools.sh", "Go is not there"),
        ("cargo_tools.sh", "cargo is not there"),
        ("ci_packages.sh", "not there: libgrpc++-dev libprotobuf-dev"),
    ],
)
def test_what_is_missing_is_said(bare: Path, script: str, told: str) -> None:
    done = subprocess.run(
        ["/bin/sh", str(TOOLS / script)],
        env={"PATH": str(bare)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert told in done.stderr
