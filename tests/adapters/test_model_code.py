"""Claims about which models are taken to bring code of their own."""

import json
from pathlib import Path

import pytest

from pool_service.adapters.model_code import code_in


def written(directory: Path, **files: object) -> Path:
    for name, content in files.items():
        path = directory / name.replace("__", "/").replace("_json", ".json").replace("_py", ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return directory


def test_a_model_of_weights_and_settings_brings_none(tmp_path: Path) -> None:
    written(tmp_path, config_json={"model_type": "llama"}, tokenizer_json={"model": {}})
    assert code_in(tmp_path) == ()


@pytest.mark.parametrize("key", ["model_file", "auto_map", "custom_pipelines"])
def test_a_key_that_names_code_is_found_in_any_configuration(tmp_path: Path, key: str) -> None:
    written(tmp_path, config_json={}, tokenizer_config_json={key: "x.Y"})
    assert code_in(tmp_path) == (f"tokenizer_config.json: {key}",)


def test_a_key_is_found_however_deep_it_is(tmp_path: Path) -> None:
    written(tmp_path, config_json={"text_config": [{"vision": {"auto_map": {}}}]})
    assert code_in(tmp_path) == ("config.json: auto_map",)


def test_a_program_is_found_however_deep_it_is(tmp_path: Path) -> None:
    written(tmp_path, config_json={}, a__b__model_py="pass")
    assert code_in(tmp_path) == ("a/b/model.py",)


def test_a_program_that_is_a_link_is_found(tmp_path: Path) -> None:
    """As the cache of the hub keeps its files."""
    blob = tmp_path / "blobs" / "0123"
    blob.parent.mkdir()
    blob.write_text("pass")
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "snapshot" / "modeling.py").symlink_to(blob)
    assert code_in(tmp_path / "snapshot") == ("modeling.py",)


@pytest.mark.parametrize("content", ["{", "[" * 100_000, "\x00"])
def test_what_cannot_be_read_brings_none(tmp_path: Path, content: str) -> None:
    written(tmp_path, config_json=content)
    assert code_in(tmp_path) == ()


def test_a_directory_that_is_not_there_brings_none(tmp_path: Path) -> None:
    assert code_in(tmp_path / "none") == ()


def test_a_link_to_itself_is_not_followed_for_ever(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    assert code_in(tmp_path) == ()
