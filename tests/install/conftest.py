"""Homes in which nothing is installed yet, and what is to be installed in them."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("PYTHON", "VIRTUAL_ENV", "XDG_", "POOL_SERVICE_", "PIPX_", "UV_PYTHON")
"""What begins like this would send an installer, or the service, to what is there already."""
LIMIT_S = 300.0
"""Where an installer hangs; a registry may be slow."""


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave these out of a choice of markers that does not know them: they need a registry."""
    chosen: str = config.getoption("markexpr")
    return True if chosen and "installs" not in chosen else None


@dataclass(frozen=True)
class Distributions:
    """What `make dist` builds, by its kind."""

    wheels: Path
    sdists: Path


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    built = tmp_path_factory.mktemp("dist")
    subprocess.run(["sh", str(ROOT / "tools/dist.sh"), str(built)], check=True, cwd=built)
    kinds = Distributions(built / "wheels", built / "sdists")
    for directory, ending in ((kinds.wheels, "*.whl"), (kinds.sdists, "*.tar.gz")):
        directory.mkdir()
        for path in built.glob(ending):
            path.rename(directory / path.name)
    return kinds


@dataclass(frozen=True)
class Home:
    """The home of a person who has an installer, and no package yet."""

    path: Path
    environment: dict[str, str]

    @property
    def program(self) -> Path:
        """Where pipx and uv put it, as the units of systemd expect."""
        return self.path / ".local/bin/pool-service"

    def run(self, *command: str | Path, code: int = 0) -> str:
        """Run a command to its end; returns what it printed."""
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where installers keep what they fetched; an hour old at most, and nobody's own."""
    return tmp_path_factory.mktemp("caches")


@pytest.fixture
def home(tmp_path: Path, caches: Path) -> Home:
    own = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    path = tmp_path / "home"
    path.mkdir()
    environment = {
        **own,
        "HOME": str(path),
        "PATH": "/usr/bin:/bin",
        "PIP_CACHE_DIR": str(caches / "pip"),
        "UV_CACHE_DIR": str(caches / "uv"),
        # The interpreter of this run, which a person would have on PATH.
        "UV_PYTHON": sys._base_executable,  # type: ignore[attr-defined]
        "PIPX_DEFAULT_PYTHON": sys._base_executable,  # type: ignore[attr-defined]
    }
    return Home(path, environment)
