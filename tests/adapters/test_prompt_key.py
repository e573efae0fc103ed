"""The key of kept prompts: what makes servers compute the same."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.prompts.prompt_key import prompt_key
from pool_service.adapters.runtime.search import Versions
from pool_service.core.types import Settings

SETTINGS = Settings("org/m", config_hash="h")
VERSIONS = Versions("0.6.0", ("0.32.4", "0.31.3", "0.7.10"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("config.json", "model.safetensors", "chat_template.jinja"):
        (directory / name).write_text("{}")
    return directory


def test_the_same_model_and_settings_have_the_same_key(model: Path) -> None:
    again = replace(SETTINGS, keep_alive=1.0, pinned=True)
    elsewhere = replace(VERSIONS, places=(Path("/x"),))
    assert prompt_key(SETTINGS, VERSIONS, [model]) == prompt_key(again, elsewhere, [model])


@pytest.mark.parametrize("name", ["model.safetensors", "chat_template.jinja", "config.json"])
def test_a_changed_file_makes_another_key(model: Path, name: str) -> None:
    before = prompt_key(SETTINGS, VERSIONS, [model])
    os.utime(model / name, ns=(1, 1))
    assert prompt_key(SETTINGS, VERSIONS, [model]) != before


def test_other_settings_versions_and_models_make_another_key(model: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft.safetensors"
    draft.write_text("{}")
    keys = {
        prompt_key(SETTINGS, VERSIONS, [model]),
        prompt_key(replace(SETTINGS, config_hash="other"), VERSIONS, [model]),
        prompt_key(replace(SETTINGS, runtime_model="org/other"), VERSIONS, [model]),
        prompt_key(SETTINGS, replace(VERSIONS, own="0.6.1"), [model]),
        prompt_key(SETTINGS, replace(VERSIONS, computing=("0.32.5", "0.31.3", "0.7.10")), [model]),
        prompt_key(SETTINGS, VERSIONS, [model, draft]),
    }
    assert len(keys) == 6


def test_files_of_the_hubs_cache_count_by_what_their_links_lead_to(tmp_path: Path) -> None:
    snapshot, blob = tmp_path / "snapshot", tmp_path / "blob"
    snapshot.mkdir()
    blob.write_text("weights")
    (snapshot / "model.safetensors").symlink_to(blob)
    before = prompt_key(SETTINGS, Versions(), [snapshot])
    blob.write_text("other weights")
    assert prompt_key(SETTINGS, Versions(), [snapshot]) != before
