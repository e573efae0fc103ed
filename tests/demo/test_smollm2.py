"""What is reused and what is made again; the tests of the whole prepare the real thing."""

from pathlib import Path

from tools.demo import smollm2


def prepared(cache: Path) -> Path:
    directory = cache / smollm2.NAME
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    smollm2.write_manifest(directory)
    return directory


def test_a_whole_directory_is_reused_without_a_word(tmp_path: Path) -> None:
    directory = prepared(tmp_path)
    told: list[str] = []
    assert smollm2.prepare_smollm2(tmp_path, told.append) == directory.resolve()
    assert told == []


def test_what_a_runtime_adds_does_no_harm(tmp_path: Path) -> None:
    directory = prepared(tmp_path)
    (directory / "cache.bin").write_bytes(b"x")
    assert smollm2.is_whole(directory)


def test_damage_is_noticed(tmp_path: Path) -> None:
    assert not smollm2.is_whole(tmp_path / "missing")
    directory = prepared(tmp_path)
    (directory / "model.safetensors").write_bytes(b"half")
    assert not smollm2.is_whole(directory)
    for manifest in ("", "[]", "{}", '{"recipe": 0, "package": "other", "sizes": {}}'):
        (directory / smollm2.MANIFEST).write_text(manifest)
        assert not smollm2.is_whole(directory)


def test_remains_of_an_interrupted_run_are_removed(tmp_path: Path) -> None:
    target = prepared(tmp_path)
    (tmp_path / f"{smollm2.PARTIAL}abc").mkdir()
    (tmp_path / f"{smollm2.PARTIAL}abc/half.gguf").write_bytes(b"x")
    other = tmp_path / "another-model"
    other.mkdir()
    smollm2.remove_remains(target)
    assert list(tmp_path.iterdir()) == [other]
