"""Check that what the service writes is private."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pool_service_client import PoolClient
from tests.attacks.attackers import NEEDS_ROOT, NOBODY
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import running


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """Make a directory that everybody can enter, as pytest's own are private."""
    with TemporaryDirectory(prefix="pool-", dir="/tmp") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def readable(directory: Path) -> set[str]:
    """Return the entries of a directory below which another user can read a file."""
    # Errors are the rule: what it may not look into.
    command = ["find", str(directory), "-type", "f", "-readable", "-printf", "%P\\n"]
    ended = subprocess.run(command, user=NOBODY, capture_output=True, text=True, check=False)
    return {line.split("/")[0] for line in ended.stdout.splitlines()}


@pytest.mark.process
@NEEDS_ROOT
def test_nobody_else_can_read_what_the_service_writes(open_dir: Path) -> None:
    config, state = open_dir / "config.toml", open_dir / "state"
    config.write_text(FAKE_RUNTIME)
    with running(state, arguments=["--config", str(config)]) as service:
        with PoolClient.connect(service.address) as pool:
            pool.ensure("m")
        private = readable(open_dir)
        written = {path.name for path in state.iterdir() if path.is_dir() and any(path.iterdir())}
        # Without these modes they would be read: they are all that is in the way.
        for path in [state, *state.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o444))
        opened = readable(state)
    assert private == {"config.toml"}
    assert {"logs", "servers"} <= opened
    assert written >= {"logs", "servers"}
