"""The README of the Go client, done word by word in a directory outside of the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.toolchain import needed
from tools.demo.service import running

pytestmark = pytest.mark.toolchains

ROOT = Path(__file__).parents[2]
README = ROOT / "clients/go/README.md"
FAKE = ROOT / "tests/fake_server.py"
CONFIG = f"""
[runtime]
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
"""


def blocks(kind: str) -> list[str]:
    """Return the README's blocks of one kind, in order."""
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", README.read_text())


def run(directory: Path, script: str, address: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["sh", "-ec", script],
        cwd=directory,
        env={**os.environ, "POOL_SERVICE_ADDRESS": address},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_first_program_runs_in_a_new_module_beside_the_clone(tmp_path: Path) -> None:
    needed("go")
    create, start = blocks("sh")
    program = blocks("go")[0]
    (tmp_path / "pool-service").symlink_to(ROOT)
    config = tmp_path / "pool.toml"
    config.write_text(CONFIG)
    with running(tmp_path / "state", arguments=["--config", str(config)]) as service:
        created = run(tmp_path, create, service.address)
        assert created.returncode == 0, created.stderr
        project = tmp_path / "hello"
        (project / "main.go").write_text(program)
        done = run(project, start, service.address)
        with PoolClient.connect(service.address) as pool:
            (server,) = pool.list()
    assert (done.returncode, done.stdout) == (0, f"{server.endpoint}\n"), done.stderr
    assert server.model == start.split()[-1]
