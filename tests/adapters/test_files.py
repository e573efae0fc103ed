"""Claims about where models are found, and how large their weights are taken to be."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from pool_service.adapters.models.files import ModelFiles, hub_cache, locate

REST = {"config.json": b"{}", "tokenizer.json": b"{}"}


def model(directory: Path, files: Mapping[str, bytes]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def in_hub(cache: Path, files: Mapping[str, bytes], commit: str = "abc") -> Path:
    """A repository org/name as the hub's cache keeps it: links to blobs."""
    repository = cache / "models--org--name"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs/main").write_text(commit)
    snapshot = repository / "snapshots" / commit
    blobs = model(repository / "blobs", {f"blob-{name}": each for name, each in files.items()})
    snapshot.mkdir(parents=True)
    for name in files:
        (snapshot / name).symlink_to(blobs / f"blob-{name}")
    return snapshot


def test_the_weights_of_a_directory_are_those_of_its_tensors(tmp_path: Path) -> None:
    files = REST | {"model.safetensors": b"x" * 100, "notes.txt": b"x" * 1000}
    found = locate(str(model(tmp_path, files)), {})
    assert found is not None
    assert (found.weight_bytes, found.complete, found.path) == (100, True, tmp_path)


def test_the_same_weights_in_two_formats_count_once(tmp_path: Path) -> None:
    files = REST | {"model.safetensors": b"x" * 100, "pytorch_model.bin": b"x" * 100}
    found = locate(str(model(tmp_path, files)), {})
    assert found is not None
    assert found.weight_bytes == 100


def test_what_the_index_names_counts_and_a_missing_part_is_noticed(tmp_path: Path) -> None:
    index = json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}).encode()
    files = REST | {"model.safetensors.index.json": index, "1.safetensors": b"x" * 10}
    found = locate(str(model(tmp_path, files | {"other.safetensors": b"x" * 99})), {})
    assert found is not None
    assert (found.weight_bytes, found.complete) == (10, False)
    model(tmp_path, {"2.safetensors": b"x" * 20})
    found = locate(str(tmp_path), {})
    assert found is not None
    assert (found.weight_bytes, found.complete) == (30, True)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_model_without_a_part_that_it_needs_is_not_complete(tmp_path: Path, missing: str) -> None:
    files = REST | {"model.safetensors": b"x"}
    del files[missing]
    found = locate(str(model(tmp_path, files)), {})
    assert found is not None
    assert not found.complete


def test_a_single_file_is_a_model(tmp_path: Path) -> None:
    file = model(tmp_path, {"m.gguf": b"x" * 7}) / "m.gguf"
    found = locate(str(file), {})
    assert found is not None
    assert (found.weight_bytes, found.complete) == (7, True)


def test_a_model_of_the_hub_is_found_in_its_cache(tmp_path: Path) -> None:
    snapshot = in_hub(tmp_path, REST | {"model.safetensors": b"x" * 5})
    found = locate("org/name", {"HF_HUB_CACHE": str(tmp_path)})
    assert found is not None
    assert (found.path, found.weight_bytes, found.complete) == (snapshot, 5, True)


def test_a_download_that_was_broken_off_is_not_complete(tmp_path: Path) -> None:
    snapshot = in_hub(tmp_path, REST | {"model.safetensors": b"x" * 5})
    (snapshot / "model.safetensors").resolve().unlink()
    found = locate("org/name", {"HF_HUB_CACHE": str(tmp_path)})
    assert found is not None
    assert not found.complete


@pytest.mark.parametrize(
    "name", ["org/other", "other", "a/b/c", "../org/name", "org/..", "https://x/y", "", "\x00"]
)
def test_what_is_nowhere_is_not_found(tmp_path: Path, name: str) -> None:
    in_hub(tmp_path, REST)
    assert locate(name, {"HF_HUB_CACHE": str(tmp_path)}) is None


@pytest.mark.parametrize(
    ("environment", "cache"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/d"}, "/c/huggingface/hub"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/hub"),
        ({"HOME": "/d", "HF_HOME": "~/b"}, "/d/b/hub"),
        ({"HOME": "/d", "HF_HOME": "$HOME/b"}, "/d/b/hub"),
    ],
)
def test_the_cache_is_where_the_hubs_own_library_looks(
    environment: dict[str, str], cache: str
) -> None:
    assert hub_cache(environment) == Path(cache)


@pytest.mark.parametrize("name", [b"abc" + b" " * 1_000_000, b"\xff", b"abc\0"])
def test_what_names_no_revision_is_not_read_to_its_end(tmp_path: Path, name: bytes) -> None:
    in_hub(tmp_path, {"config.json": b"{}"})
    (tmp_path / "models--org--name" / "refs" / "main").write_bytes(name)
    assert locate("org/name", {"HF_HUB_CACHE": str(tmp_path)}) is None


def test_a_link_that_leads_nowhere_hides_no_model(tmp_path: Path) -> None:
    """What is not found is not checked for code of its own either."""
    (tmp_path / "notes.bin").symlink_to("a" * 300)
    files = locate(str(tmp_path), {})
    assert files is not None
    assert files.path == tmp_path


def test_what_cannot_be_looked_at_is_there_and_not_complete(tmp_path: Path) -> None:
    path = str(tmp_path / ("a" * 300))
    assert locate(path, {}) == ModelFiles(Path(path), 0, complete=False)


def index_of(*names: object) -> bytes:
    return json.dumps({"weight_map": {f"w{n}": name for n, name in enumerate(names)}}).encode()


def test_an_index_of_another_build_takes_no_model_from_the_hub_away(tmp_path: Path) -> None:
    stale = index_of(*(f"model-{n:05}-of-00013.safetensors" for n in range(1, 14)))
    files = {"model.safetensors": b"x" * 5, "model.safetensors.index.json": stale}
    in_hub(tmp_path, REST | files)
    found = locate("org/name", {"HF_HUB_CACHE": str(tmp_path)})
    assert found is not None
    assert (found.weight_bytes, found.complete) == (5, True)


def test_links_whose_files_are_gone_are_files_that_have_not_arrived(tmp_path: Path) -> None:
    names = [f"model-{n:05}-of-00002.safetensors" for n in (1, 2)]
    files = dict.fromkeys(names, b"x" * 5) | {"model.safetensors.index.json": index_of(*names)}
    snapshot = in_hub(tmp_path, REST | files)
    (snapshot / names[1]).resolve().unlink()
    found = locate("org/name", {"HF_HUB_CACHE": str(tmp_path)})
    assert found is not None
    assert (found.weight_bytes, found.complete) == (5, False)


@pytest.mark.parametrize(
    "index",
    [
        b"",
        b"[]",
        b"null",
        b'{"weight_map": []}',
        b'{"weight_map": "x"}',
        b"[" * 100_000,
        b"\xff\xfe",
        index_of(None, 5, ["x"], {}),
        index_of("../model.safetensors", "/etc/passwd", "a\0b", ""),
    ],
    ids=["empty", "a list", "null", "list", "text", "deep", "no text", "no names", "paths"],
)
def test_an_index_that_names_nothing_decides_nothing(tmp_path: Path, index: bytes) -> None:
    model(tmp_path, REST | {"model.safetensors": b"x", "model.safetensors.index.json": index})
    found = locate(str(tmp_path), {})
    assert found is not None
    assert (found.weight_bytes, found.complete) == (1, True)
