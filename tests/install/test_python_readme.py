"""The README of the Python client, done word by word in a directory outside of the repository."""

import re
import sys
from pathlib import Path

import pytest

from pool_service.adapters.state_dir.holder import read_note
from pool_service_client import PoolClient
from tests.install.conftest import ROOT, Home
from tests.service.conftest import FAKE_RUNTIME

pytestmark = pytest.mark.installs

README = ROOT / "clients/python/README.md"


def block(kind: str) -> str:
    """Return the README's first block of one kind."""
    found: list[str] = re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", README.read_text())
    return found[0]


def test_its_first_program_runs_where_nothing_was_installed(home: Home, tmp_path: Path) -> None:
    (home.path / "pool-service").symlink_to(ROOT)
    (home.path / "endpoint").write_text(block("python"))
    config = tmp_path / "pool.toml"
    config.write_text(FAKE_RUNTIME)
    # As `python3`, whichever runs the tests.
    (home.path / "python3").symlink_to(sys._base_executable)  # type: ignore[attr-defined]
    script = f"cd {home.path}; PATH=$PWD:$PATH\n{block('sh')}"
    home.run("sh", "-ec", script)
    # It starts the service that it has installed, by the configuration that the environment names.
    home.environment["POOL_SERVICE_CONFIG"] = str(config)
    home.environment["POOL_SERVICE_LISTEN"] = "127.0.0.1:0"
    home.environment["POOL_SERVICE_STATE_DIR"] = str(tmp_path / "state")
    try:
        printed = home.run(home.path / ".venv/bin/python", home.path / "endpoint", "fake/m")
        note = read_note(tmp_path / "state")
        assert note is not None
        with PoolClient.connect(note.addresses[0]) as pool:
            (server,) = pool.list()
        assert printed == f"{server.endpoint} {server.served_model_name}\n"
    finally:
        home.run(home.path / ".venv/bin/pool-service", "stop")
    code = "import openai, pool_service_client.openai_client"
    home.run(home.path / ".venv/bin/python", "-c", code)
