"""A TypeScript project outside of this repository installs the client, as its README says."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.conftest import FOREIGN, LIMIT_S, ROOT
from tests.toolchain import needed
from tools.demo.service import running

pytestmark = pytest.mark.installs

CLIENT = ROOT / "clients/typescript"
README = (CLIENT / "README.md").read_text()
FAKE = ROOT / "tests/fake_server.py"
CONFIG = f"""
[runtime]
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
"""
MADE = shutil.ignore_patterns("node_modules", "dist", "build")
"""What a clone does not have."""


def block(begin: str) -> str:
    """Return the block of the README that begins like this."""
    (found,) = re.findall(rf"```(?:ts)?\n({re.escape(begin)}.*?)```\n", README, re.DOTALL)
    assert isinstance(found, str)
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory with a clone in which nothing was built."""
    needed("node", "npm", "make")
    clone = tmp_path / "pool-service"
    shutil.copytree(CLIENT, clone / "clients/typescript", ignore=MADE)
    shutil.rmtree(clone / "clients/typescript/proto", ignore_errors=True)
    shutil.copytree(ROOT / "proto", clone / "proto", ignore=MADE)
    return tmp_path


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    config = tmp_path / "pool.toml"
    config.write_text(CONFIG)
    with running(tmp_path / "state", arguments=["--config", str(config)]) as service:
        yield service.address


def run(where: Path, script: str, address: str = "") -> str:
    """Run a script of the README as a person does; returns what it printed."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    done = subprocess.run(
        ["sh", "-ec", script],
        env={**own, "POOL_SERVICE_ADDRESS": address},
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(project: Path, address: str) -> None:
    """Write the example, build it and run it."""
    (project / "example.ts").write_text(block("import { ModelRejected"))
    built = block("npx tsc ").replace("MODEL", "some/model")
    printed = run(project, built, address)
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+ \S+\n", printed), printed


def test_npm_installs_a_clone_as_the_readme_says(outside: Path, address: str) -> None:
    run(outside, block("mkdir engine\n"))
    check(outside / "engine", address)


def test_npm_installs_what_it_has_packed(outside: Path, address: str) -> None:
    clone = "../pool-service/clients/typescript"
    assert f"`npm pack {clone}`" in README
    script = block("mkdir engine\n").replace(
        f"npm install {clone}\n", f"npm pack {clone}\nnpm install ./pool-service-client-*.tgz\n"
    )
    assert "npm pack" in script
    run(outside, script)
    package = outside / "engine/node_modules/pool-service-client"
    assert not package.is_symlink()
    proto = "proto/pool_service/v1/pool_service.proto"
    assert (package / proto).read_bytes() == (ROOT / proto).read_bytes()
    check(outside / "engine", address)
