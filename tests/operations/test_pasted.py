"""Each block of commands in the README and the tutorial can be pasted into bash and zsh.

They run in their order, as a person would paste them, in a directory that looks as `make demo`
leaves it. The service that they speak to is started by the test: the block that starts one stays
in its terminal.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.operations.scene import FAKE, FILES, PROGRAM, ROOT, RUNTIME
from tools.demo.service import running
from tools.demo.smollm2 import NAME, prepare_smollm2

DOCUMENTS = ("README.md", "docs/tutorial/first-model.md")
BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
STAYS = "pool-service serve"
DEMO = "make demo"

BOUNDED = "--max-tokens 256"
"""Arguments of a server: so small a model now and then goes on for its 32768 tokens."""


def blocks(document: str) -> list[str]:
    found = BLOCK.findall((ROOT / document).read_text())
    return [text for language, text in found if not language]


def pasted(document: str) -> str:
    """All commands but the demo, and without the line that stays in its terminal."""
    found = [block for block in blocks(document) if block.strip() != DEMO]
    lines = [line for block in found for line in block.splitlines() if line != STAYS]
    return "\n".join(lines) + "\n"


@contextmanager
def pasting(directory: Path, models: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Runs a service; yields the environment of a shell in `directory`, as the demo leaves it."""
    (directory / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (directory / ".cache").mkdir()
    (directory / ".cache/models").symlink_to(models)
    environment = {
        **os.environ,
        **environment,
        "HOME": str(directory),
        "POOL_SERVICE_STATE_DIR": str(directory / "state"),
    }
    with running(directory / "state", environment=environment) as service:
        yield {**environment, "POOL_SERVICE_ADDRESS": service.address}


def paste(shell: str, text: str, directory: Path, environment: dict[str, str]) -> None:
    script = directory / "pasted"
    script.write_text(text)
    quiet = ["-f"] if shell == "zsh" else []
    done = subprocess.run(
        [shell, *quiet, "-e", "-u", "-o", "pipefail", str(script)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def needed(shell: str) -> str:
    if shutil.which(shell) is None:
        if os.environ.get("CI"):
            pytest.fail(f"{shell} is not there; CI has to run this")
        pytest.skip(f"{shell} is not there")
    return shell


@pytest.mark.process
@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_every_block_can_be_pasted(shell: str, document: str, tmp_path: Path) -> None:
    needed(shell)
    program = tmp_path / "bin/vllm-mlx"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, fake=str(FAKE)))
    program.chmod(0o755)
    config = tmp_path / "pool.toml"
    config.write_text(RUNTIME.format(program=str(program)))
    model = tmp_path / "models" / NAME
    model.mkdir(parents=True)
    for name, content in FILES.items():
        (model / name).write_bytes(content)
    directory = tmp_path / "clone"
    directory.mkdir()
    settings = {"POOL_SERVICE_CONFIG": str(config)}
    with pasting(directory, tmp_path / "models", settings) as environment:
        paste(shell, pasted(document), directory, environment)


@pytest.mark.whole
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_works_with_the_model_of_the_demo(document: str, tmp_path: Path) -> None:
    models = ROOT / ".cache/models"
    prepare_smollm2(models, lambda text: None)
    with pasting(tmp_path, models, {"POOL_SERVICE_DEFAULTS_ARGUMENTS": BOUNDED}) as environment:
        paste(needed("zsh"), pasted(document), tmp_path, environment)


def test_the_blocks_are_found() -> None:
    for document in DOCUMENTS:
        found = blocks(document)
        assert f"{DEMO}\n" in found
        assert [block for block in found if block.endswith(f"{STAYS}\n")] != []
        assert len(found) > 5
