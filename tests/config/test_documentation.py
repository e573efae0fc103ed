"""The documents say what the models say; `make docs` makes it so."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pool_service.config.loading import variables
from pool_service.config.problems import form_of, tables
from pool_service.config.schema import ModelSection
from pool_service.core.types import FOREVER
from tests.config.conftest import Read

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/configuration.md"
SECTIONS = tables() | {"models": ModelSection}


@pytest.fixture(scope="module")
def example() -> str:
    _, _, rest = DOCUMENT.read_text().partition("```toml\n")
    return rest.partition("```")[0]


@pytest.mark.process
def test_the_tables_of_keys_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools/document_configuration.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described(section: str) -> None:
    for key, field in SECTIONS[section].model_fields.items():
        assert field.description, key
        assert form_of(field).kind, key


def test_every_variable_is_documented() -> None:
    text = DOCUMENT.read_text()
    assert [name for name in variables() if f"`{name}`" not in text] == []


def test_the_example_has_every_key_and_is_valid(example: str, read: Read) -> None:
    said = tomllib.loads(example)
    for name, table in tables().items():
        assert said[name].keys() == table.model_fields.keys()
    catalogue = read(example).catalogue
    assert catalogue.settings_for("chat").keep_alive == FOREVER
    assert catalogue.settings_for("vllm-mlx/ours").start_timeout == catalogue.defaults.start_timeout
