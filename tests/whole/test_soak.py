"""A minute of what `make soak` does for as long as one likes."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole


def test_a_minute_of_random_use_and_harm_breaks_no_promise(tmp_path: Path) -> None:
    soak = (
        sys.executable,
        "-m",
        "tools.soak",
        "--minutes",
        "1",
        "--directory",
        str(tmp_path / "soak"),
    )
    done = subprocess.run(soak, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
