"""Claims about the plugin itself: that it reaches services, and no server of theirs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no /proc"),
]

STARTED = """
import tests.as_on_macos
tests.as_on_macos.pytest_configure()
import os, sys
from pathlib import Path
from tools.demo.service import running
from pool_service_client import PoolClient
from tests.service.conftest import FAKE_RUNTIME

def loads_it(pid):
    return "libproc.so" in Path(f"/proc/{pid}/maps").read_text()

(config := Path(sys.argv[1]) / "pool.toml").write_text(FAKE_RUNTIME)
with running(config.parent / "state", arguments=["--config", str(config)]) as service:
    with PoolClient.connect(service.address) as pool:
        server = pool.ensure("m").server
        print(sys.platform, loads_it(service.process.pid), loads_it(server.pid))
"""


def test_a_service_that_is_started_under_it_is_one_of_macos(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STARTED, str(tmp_path)],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["linux", "True", "False"], done.stderr
