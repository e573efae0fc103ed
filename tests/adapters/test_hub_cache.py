"""Which models the cache of the hub is said to have."""

import os
from pathlib import Path

import pytest

from pool_service.adapters.models import hub_cache as module
from pool_service.adapters.models.hub_cache import MAX_MODELS, cached_models, partial_bytes


def in_cache(cache: Path, *names: str) -> tuple[str, ...]:
    for name in names:
        (cache / name).mkdir()
    return cached_models({"HF_HUB_CACHE": str(cache)})


def test_what_is_no_model_takes_no_models_place(tmp_path: Path) -> None:
    others = [f"datasets--o--{number}" for number in range(MAX_MODELS)]
    models = [f"models--o--{number}" for number in range(9)]
    assert in_cache(tmp_path, *others, *models) == tuple(f"o/{number}" for number in range(9))


def test_of_very_many_models_so_many_are_told(tmp_path: Path) -> None:
    names = [f"models--o--{number}" for number in range(MAX_MODELS + 9)]
    assert len(in_cache(tmp_path, *names)) == MAX_MODELS


def test_a_directory_whose_name_is_no_models_is_left_out(tmp_path: Path) -> None:
    wrong = ["models--", "models--o--\x1b[31m", os.fsdecode(b"models--o--\xff")]
    assert in_cache(tmp_path, *wrong, "models--o--n") == ("o/n",)


def test_of_a_model_that_is_nowhere_nothing_has_arrived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"HF_HUB_CACHE": str(tmp_path)}
    assert partial_bytes("o/n", environment) == 0
    assert partial_bytes(str(tmp_path), environment) == 0
    blobs = tmp_path / "models--o--n" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a.incomplete").write_bytes(b"12345")
    (blobs / "whole").write_bytes(b"12345")
    assert partial_bytes("o/n", environment) == 5
    monkeypatch.setattr(module, "hub_cache", lambda _: None)
    assert partial_bytes("o/n", environment) == 0
