"""promtool, which comes with Prometheus: without it tests are left out, and in CI they fail."""

import os
import shutil
import subprocess
from dataclasses import dataclass

import pytest

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and not os.environ.get("CI"),
    reason="promtool is not there, which comes with Prometheus",
)


@dataclass(frozen=True, slots=True)
class Said:
    """What it said, on both its outputs, and its exit code."""

    code: int
    text: str


def promtool(*arguments: str, given: str = "") -> Said:
    """Run it with `given` on its stdin."""
    done = subprocess.run(
        ["promtool", *arguments],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout)
