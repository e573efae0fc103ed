"""The page of the front's keys says what the models say; `make docs` makes it so."""

import re
import tomllib

import pytest

from pool_service.config.errors import form_of, key_name, named_tables, tables
from pool_service.config.loading import variables
from pool_service.config.types import DefaultText
from pool_service.fleet.config import FrontConfig
from pool_service.fleet.config.loading import FRONT, RESTART_KEYS
from tests.fleet.config.conftest import ONE, Read
from tools.document_configuration import PAGES, default, filled

(PAGE,) = (page for page, layout in PAGES.items() if layout is FRONT)
TEXT = PAGE.read_text()
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
OWN = ("front", "member_tls", "etcd", "kubernetes", "ray", "http", "members")
SECTIONS = tables(FrontConfig) | named_tables(FrontConfig)


def test_the_tables_of_keys_are_up_to_date() -> None:
    assert filled(TEXT, FRONT) == TEXT, "run `make docs`"
    for section in OWN:
        for key in SECTIONS[section].model_fields:
            assert f"| `{key}` |" in TEXT.partition(f"<!-- keys: {section} -->")[2]


def test_a_table_that_is_out_of_date_is_made_anew() -> None:
    stale = TEXT.replace("| `beat` |", "| `pulse` |").replace("FLEET_AUTH_LOCAL", "AUTH")
    assert stale != TEXT
    assert filled(stale, FRONT) == TEXT


@pytest.mark.parametrize("section", OWN)
def test_every_key_is_described(section: str) -> None:
    for key, field in SECTIONS[section].model_fields.items():
        assert field.description, key
        assert form_of(field).kind, key


def test_every_variable_is_documented() -> None:
    names = [*variables(FRONT), FRONT.file_variable]
    assert [name for name in names if f"`{name}`" not in TEXT] == []


def test_every_key_that_needs_a_restart_is_named() -> None:
    reload = TEXT.partition("\n## Reload\n")[2].partition("\n## ")[0]
    _, applied, restart = reload.partition("These keys are read only when the front starts:")
    assert applied
    assert set(re.findall(r"`([\w.]+)`", restart)) == {key_name(path) for path in RESTART_KEYS}


def test_the_first_example_is_a_whole_file(read: Read) -> None:
    assert read(EXAMPLES[0]).static_members.keys() == {"studio", "mini"}


def test_the_complete_example_has_every_key_of_a_front_and_is_valid(read: Read) -> None:
    said = tomllib.loads(EXAMPLES[-1])
    for section in ("front", "member_tls", "etcd", "http"):
        assert said[section].keys() == SECTIONS[section].model_fields.keys()
    assert read(EXAMPLES[-1]).leader == read(EXAMPLES[-1]).discovery


@pytest.mark.parametrize("section", ["front", "member_tls", "etcd", "kubernetes", "ray", "http"])
def test_defaults_are_documented_as_one_would_write_them(section: str, read: Read) -> None:
    fields = {
        key: field
        for key, field in SECTIONS[section].model_fields.items()
        if not any(isinstance(part, DefaultText) for part in field.metadata)
    }
    text = "\n".join(f"{key} = {default(field).strip('`')}" for key, field in fields.items())
    said = getattr(read(f"[{section}]\n{text}\n{ONE}"), section)
    assert {key: getattr(said, key) for key in fields} == {
        key: field.default for key, field in fields.items()
    }


def test_it_is_in_the_contents_of_the_documentation() -> None:
    docs = PAGE.parents[1]
    assert "](reference/fleet-configuration.md)" in (docs / "README.md").read_text()
    assert '"docs/reference/fleet-configuration"' in (docs / "site/conf.py").read_text()
