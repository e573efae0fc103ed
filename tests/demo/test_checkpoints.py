"""The tiny checkpoints; that the runtime serves them is shown by the tests of the whole."""

import json
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import pytest

from tools.demo.checkpoints import IMAGE, write_tiny_llama, write_tiny_vlm

Writer = Callable[[Path], None]
WRITERS = pytest.mark.parametrize("write", [write_tiny_llama, write_tiny_vlm])


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@WRITERS
def test_the_same_call_writes_the_same_small_files(write: Writer, tmp_path: Path) -> None:
    write(tmp_path / "one")
    write(tmp_path / "deeper/two")
    assert contents(tmp_path / "one") == contents(tmp_path / "deeper/two")
    assert sum(map(len, contents(tmp_path / "one").values())) < 1_000_000


@WRITERS
def test_it_carries_no_code(write: Writer, tmp_path: Path) -> None:
    write(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    config = json.loads((tmp_path / "config.json").read_text())
    assert not {"model_file", "auto_map"} & config.keys()


@WRITERS
def test_only_printable_text_scores(write: Writer, tmp_path: Path) -> None:
    write(tmp_path)
    weights = mx.load(str(tmp_path / "model.safetensors"))
    assert isinstance(weights, dict)
    ids = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    scoring = {token for token, number in ids.items() if weights["lm_head.weight"][number].any()}
    assert scoring == {chr(code) for code in range(ord("!"), ord("~") + 1)}


def test_the_image_token_is_one_of_the_vocabulary(tmp_path: Path) -> None:
    write_tiny_vlm(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    ids = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert ids[IMAGE] == config["image_token_id"]
    assert len(ids) == config["vocab_size"] == config["text_config"]["vocab_size"]
