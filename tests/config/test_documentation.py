"""The documents say what the models say; `make docs` makes it so."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pool_service.config import Config
from pool_service.config.errors import form_of, key_name, named_tables, tables
from pool_service.config.loading import variables
from pool_service.config.restart_keys import RESTART_KEYS
from pool_service.config.schema import DefaultsSection, ModelSection
from pool_service.config.service_source import SERVICE
from pool_service.config.types import DefaultText
from pool_service.core.types import FOREVER
from tests.config.conftest import Read
from tools.document_configuration import default

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/reference/configuration.md"
SECTIONS = tables(Config) | named_tables(Config)


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
    assert [name for name in variables(SERVICE) if f"`{name}`" not in text] == []


def test_every_key_that_needs_a_restart_is_named() -> None:
    _, _, rest = DOCUMENT.read_text().partition("\n## Reload\n")
    reload = rest.partition("\n## ")[0]
    assert [key_name(path) for path in RESTART_KEYS if f"`{key_name(path)}`" not in reload] == []


def test_the_example_has_every_key_and_is_valid(example: str, read: Read) -> None:
    said = tomllib.loads(example)
    for name, table in tables(Config).items():
        # Some keys are for other programs than the first one.
        others = keys_of_all(said["runtimes"]) if name == "runtime" else set()
        assert said[name].keys() | others == table.model_fields.keys()
    assert keys_of_all(said["groups"]) == {"limit"}
    assert keys_of_all(said["runtimes"]) >= {"command"}
    own = ModelSection.model_fields.keys() - DefaultsSection.model_fields.keys()
    assert keys_of_all(said["models"]) >= own
    catalogue = read(example).catalogue
    assert catalogue.settings_for(catalogue.resolve("assistant")).keep_alive == FOREVER
    assert catalogue.settings_for("vllm-mlx/ours").start_timeout == catalogue.defaults.start_timeout


def keys_of_all(tables_by_name: dict[str, dict[str, object]]) -> set[str]:
    return {key for table in tables_by_name.values() for key in table}


@pytest.mark.parametrize("section", tables(Config))
def test_defaults_are_documented_as_one_would_write_them(section: str, read: Read) -> None:
    fields = {
        key: field
        for key, field in tables(Config)[section].model_fields.items()
        if not any(isinstance(part, DefaultText) for part in field.metadata)
    }
    text = "\n".join(f"{key} = {default(field).strip('`')}" for key, field in fields.items())
    # The other keys of [fleet] need it.
    needed = "name = 'one'\n" if section == "fleet" else ""
    said = getattr(read(f"[{section}]\n{needed}{text}"), section)
    assert {key: getattr(said, key) for key in fields} == {
        key: field.get_default(call_default_factory=True) for key, field in fields.items()
    }
