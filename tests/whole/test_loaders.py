"""Which checkpoints the loaders of mlx-lm and mlx-vlm take, which `weight_files` has to know."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import mlx_lm.utils
import pytest

from pool_service.adapters.models.files import INDEX, locate
from tools.demo.checkpoints import write_tiny_llama, write_tiny_vlm

pytestmark = pytest.mark.whole

STALE = [f"model-{n:05}-of-00013.safetensors" for n in range(1, 14)]


def checkpoint(directory: Path, weights: Sequence[str], index: Sequence[str]) -> Path:
    """A tiny Llama, its weights under each of the names, with an index of others."""
    write_tiny_llama(directory)
    return with_files(directory, weights, index)


def with_files(directory: Path, weights: Sequence[str], index: Sequence[str]) -> Path:
    whole = directory / "model.safetensors"
    for name in weights:
        shutil.copy(whole, directory / f"{name}.new")
    whole.unlink()
    for name in weights:
        (directory / f"{name}.new").rename(directory / name)
    if index:
        names = {f"w{n}": name for n, name in enumerate(index)}
        (directory / INDEX).write_text(json.dumps({"weight_map": names}))
    return directory


def is_complete(directory: Path) -> bool:
    found = locate(str(directory), {})
    return found is not None and found.complete


def loads(directory: Path) -> bool:
    try:
        mlx_lm.utils.load_model(directory)
    except (FileNotFoundError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("weights", "index", "complete"),
    [
        (["model.safetensors"], [], True),
        (["model.safetensors"], STALE, True),
        (["model-00001-of-00001.safetensors"], STALE, True),
        (["model.safetensors", "consolidated.safetensors"], STALE, True),
        (["consolidated.safetensors"], [], False),
        (["adapters.safetensors"], [], False),
        (["pytorch_model.bin"], [], False),
        (["consolidated.safetensors"], STALE, False),
    ],
)
def test_mlx_lm_loads_exactly_what_is_called_complete(
    tmp_path: Path, weights: list[str], index: list[str], complete: bool
) -> None:
    directory = checkpoint(tmp_path, weights, index)
    assert (is_complete(directory), loads(directory)) == (complete, complete)


def test_mlx_vlm_loads_a_model_with_an_index_of_another_build(tmp_path: Path) -> None:
    mlx_vlm = pytest.importorskip("mlx_vlm.utils")
    write_tiny_vlm(tmp_path)
    with_files(tmp_path, ["model.safetensors"], STALE)
    assert is_complete(tmp_path)
    assert mlx_vlm.load_model(tmp_path) is not None
