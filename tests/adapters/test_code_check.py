"""Claims about which models are taken to bring code of their own."""

import json
import os
import resource
from pathlib import Path

import pytest

from pool_service.adapters.models import code_check
from pool_service.adapters.models.code_check import code_in


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


@pytest.mark.parametrize("content", ["{", ""])
def test_what_says_nothing_brings_none(tmp_path: Path, content: str) -> None:
    written(tmp_path, config_json=content)
    assert code_in(tmp_path) == ()


def test_a_program_in_a_directory_that_a_link_leads_to_is_found(tmp_path: Path) -> None:
    code = written(tmp_path / "elsewhere", modeling_py="pass")
    (tmp_path / "model" / "below").mkdir(parents=True)
    (tmp_path / "model" / "below" / "link").symlink_to(code)
    (code / "back").symlink_to(tmp_path / "model")
    assert code_in(tmp_path / "model") == ("below/link/modeling.py",)


@pytest.mark.parametrize(
    "content", [b"\0", b'{"model_file": "\xe4.py"}', b'{"auto_map": {}, "a": %s}' % (b"1" * 5000)]
)
def test_code_cannot_hide_in_what_only_others_can_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    assert code_in(tmp_path) == ("config.json: no JSON, so it cannot be checked",)


@pytest.mark.parametrize("name", ["evil.PY", "evil.pyc", "native.so", "a.pyd"])
def test_whatever_python_imports_is_code(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("")
    assert code_in(tmp_path) == (name,)


def test_a_configuration_is_known_in_any_case_of_letters(tmp_path: Path) -> None:
    (tmp_path / "CONFIG.J\u017fON").write_text('{"auto_map": {}}')
    assert code_in(tmp_path) == ("CONFIG.J\u017fON: auto_map",)


@pytest.mark.parametrize("kind", ["pipe", "device", "long"])
def test_what_is_no_ordinary_file_is_neither_read_nor_trusted(tmp_path: Path, kind: str) -> None:
    """A pipe would be waited for, and a device never end."""
    config = tmp_path / "config.json"
    if kind == "pipe":
        os.mkfifo(config)
    else:
        config.symlink_to("/dev/zero" if kind == "device" else "a" * 300)
    (found,) = code_in(tmp_path)
    assert found.startswith("config.json: cannot be checked")


def test_nothing_is_trusted_for_lack_of_descriptors(tmp_path: Path) -> None:
    written(tmp_path, model_py="pass")
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        found = code_in(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
    assert found == (".: cannot be checked (Too many open files)",)


def test_a_directory_that_is_not_there_brings_none(tmp_path: Path) -> None:
    assert code_in(tmp_path / "none") == ()


def test_a_link_to_itself_is_not_followed_for_ever(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    assert code_in(tmp_path) == ()


def test_code_beside_a_directory_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    """Not even root can open a path that is longer than paths may be."""
    written(tmp_path, config_json={"auto_map": {}}, model_py="pass")
    inner = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=inner)
        outer, inner = inner, os.open("d" * 200, os.O_RDONLY, dir_fd=inner)
        os.close(outer)
    os.close(inner)
    deep, model, config = code_in(tmp_path)
    assert deep.endswith("/dd: cannot be checked (File name too long)".replace("dd", "d" * 200))
    assert (model, config) == ("model.py", "config.json: auto_map")


def test_code_cannot_hide_behind_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_check, "MAX_FILES", 3)
    written(tmp_path, a_json={}, b_json={}, c_json={})
    assert code_in(tmp_path) == ()
    written(tmp_path, d_json={})
    assert "too many to be checked" in code_in(tmp_path)[0]


def test_code_cannot_hide_in_a_large_configuration(tmp_path: Path) -> None:
    written(tmp_path, config_json={"junk": " " * 2_000_000, "model_file": "x.py"})
    assert code_in(tmp_path) == ("config.json: model_file",)
    with (tmp_path / "config.json").open("r+b") as config:
        config.truncate(code_check.MAX_CONFIG_BYTES + 1)
    assert code_in(tmp_path) == ("config.json: too large to be checked",)


def test_code_cannot_hide_in_the_depths_of_a_configuration(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    written(tmp_path, config_json=f'{{"model_file": "x.py", "junk": {deep}}}')
    assert code_in(tmp_path) == ("config.json: nested too deep to be checked",)


@pytest.mark.parametrize("key", sorted(code_check.CODE_KEYS))
def test_a_key_is_found_however_it_is_written(tmp_path: Path, key: str) -> None:
    escaped = "".join(f"\\u{ord(letter):04X}" for letter in key)
    for written_key in (escaped, escaped[:6] + key[1:], key[:-1] + escaped[-6:].lower()):
        (tmp_path / "config.json").write_text(f'{{"a": {{"{written_key.replace("U", "u")}": 1}}}}')
        assert code_in(tmp_path) == (f"config.json: {key}",)
    for encoding in ("utf-16", "utf-16-be", "utf-32-le"):
        (tmp_path / "config.json").write_text(f'{{"{key}": 1}}', encoding=encoding)
        assert code_in(tmp_path) == (f"config.json: {key}",)


def test_a_vocabulary_of_the_largest_models_hides_nothing(tmp_path: Path) -> None:
    vocabulary = {f"token {number}": number for number in range(250_000)}
    written(tmp_path, tokenizer_json={"model": {"vocab": vocabulary}})
    assert code_in(tmp_path) == ()
