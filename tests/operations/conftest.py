"""Where the tools of the page are missing its tests are left out, and in CI they fail."""

import os
import shutil
import subprocess

import pytest

from tests.operations.scene import ROOT


@pytest.fixture(scope="session")
def tools() -> None:
    """Builds what is not there yet of grpcurl, grpc-health-probe and ghz."""
    if shutil.which("go") is None:
        reason = "Go is not there, which builds grpcurl, grpc-health-probe and ghz"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI has to run this")
        pytest.skip(reason)
    build = [str(ROOT / "tools/go_tools.sh")]
    done = subprocess.run(["/bin/sh", *build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
