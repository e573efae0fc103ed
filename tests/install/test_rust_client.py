"""What the README of the Rust client says works outside of this repository."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.install.conftest import ROOT
from tests.toolchain import needed
from tools.demo.service import RunningService, running

pytestmark = pytest.mark.installs

CLIENT = ROOT / "clients/rust"
FAKE = ROOT / "tests/fake_server.py"
CONFIG = f"""
[runtime]
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
"""
BY_PATH = "cargo add pool-service-client --path ../pool-service/clients/rust\n"
BUILD_LIMIT_S = 900.0
"""Everything is compiled, on a machine that may be busy."""


@dataclass(frozen=True)
class Readme:
    """The code of the README, by the language that its blocks name."""

    text: str

    def blocks(self, language: str) -> list[str]:
        """Return the blocks in the order in which they stand."""
        return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", self.text)

    def commands(self, beginning: str) -> str:
        """Return the block of commands that begins like this."""
        (block,) = (block for block in self.blocks("sh") if block.startswith(beginning))
        return block


@dataclass(frozen=True)
class Desk:
    """A directory outside of the repository, with the service's address in the environment."""

    path: Path
    environment: dict[str, str]

    def run(self, commands: str, directory: str = ".", stdin: str = "") -> str:
        """Run the commands as a person who pastes them; returns what they printed."""
        done = subprocess.run(
            ["sh", "-ec", commands],
            env=self.environment,
            cwd=self.path / directory,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=BUILD_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def readme() -> Readme:
    return Readme((CLIENT / "README.md").read_text())


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    directory = tmp_path_factory.mktemp("service")
    config = directory / "pool.toml"
    config.write_text(CONFIG)
    with running(directory / "state", arguments=["--config", str(config)]) as service:
        yield service


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all projects build, so that each dependency is compiled once."""
    return tmp_path_factory.mktemp("target")


@pytest.fixture
def desk(tmp_path: Path, service: RunningService, built: Path) -> Desk:
    needed("cargo", "git")
    own = {
        name: value for name, value in os.environ.items() if not name.startswith("POOL_SERVICE_")
    }
    return Desk(
        tmp_path,
        {**own, "CARGO_TARGET_DIR": str(built), "POOL_SERVICE_ADDRESS": service.address},
    )


def check_first_example(desk: Desk, readme: Readme) -> None:
    (desk.path / "engine/src/main.rs").write_text(readme.blocks("rust,no_run")[0])
    printed = desk.run(readme.commands("cargo run"), "engine")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", printed)


def test_a_project_beside_a_clone_runs_the_examples(desk: Desk, readme: Readme) -> None:
    (desk.path / "pool-service").symlink_to(ROOT)
    desk.run(readme.commands("cargo new"))
    check_first_example(desk, readme)

    desk.run(readme.commands("cargo add async-openai"), "engine")
    (engine,) = readme.blocks("rust,ignore")
    (desk.path / "engine/src/main.rs").write_text(engine)
    printed = desk.run(readme.commands("cargo run"), "engine", "Hello\nAgain\n")
    assert printed == "done t0 t1 t2 t3 t4 \n" * 2


def test_a_project_that_names_the_repository_runs_the_first_example(
    desk: Desk, readme: Readme
) -> None:
    repository = desk.path / "repository"
    left_out = shutil.ignore_patterns("target", "build", "node_modules", "Cargo.lock")
    for part in ("clients/rust", "proto"):
        shutil.copytree(ROOT / part, repository / part, symlinks=True, ignore=left_out)
    who = "-c user.name=somebody -c user.email=somebody@pool.test"
    desk.run(f"git init -q && git add . && git {who} commit -qm all", "repository")

    project = readme.commands("cargo new")
    assert BY_PATH in project
    by_url = readme.commands("cargo add pool-service-client --git URL")
    desk.run(project.replace(BY_PATH, by_url.replace("URL", f"file://{repository}")))
    check_first_example(desk, readme)
