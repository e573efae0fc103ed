"""Claims about the plugin itself: that it reaches those whom it is meant for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.process

TRACED = """
import subprocess, sys
print(subprocess._USE_VFORK, subprocess._USE_POSIX_SPAWN)
print(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, text=True).stdout)
"""


def test_what_is_started_under_it_forks_too() -> None:
    start = f"subprocess.run([sys.executable, '-c', {TRACED!r}])"
    plugin = "import tests.realfork\ntests.realfork.pytest_configure()"
    program = f"{plugin}\nimport subprocess, sys\n{start}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["False", "False", "1"], done.stderr
