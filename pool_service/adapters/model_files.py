"""Where a model's files are on this machine, and how many bytes its weights are.

A model is an absolute path, or an id of the Hugging Face hub, whose cache is read as its
documentation lays it out: models--ORG--NAME/refs/main names the snapshot that is loaded.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".npz", ".bin", ".pt", ".pth"})
INDEX = "model.safetensors.index.json"
LARGEST_JSON = 64 * 1024 * 1024
"""Bytes; the index of the largest models is some megabytes."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk.

    path: its directory, or its only file; weights: bytes of its tensors; complete: nothing
    is missing that is needed to load it.
    """

    path: Path
    weights: int
    complete: bool


def locate(runtime_model: str, environment: Mapping[str, str]) -> ModelFiles | None:
    """The files of a model; None: there are none. Blocking.

    environment: of the process that is to load it, which says where the cache is.
    """
    path = Path(runtime_model)
    try:
        if path.is_absolute():
            return _look(path) if path.exists() else None
        snapshot = _snapshot(hub_cache(environment), runtime_model)
        return _look(snapshot) if snapshot is not None and snapshot.is_dir() else None
    except (OSError, ValueError):
        return None


def hub_cache(environment: Mapping[str, str]) -> Path:
    """The directory of the hub's cache, by the variables that huggingface_hub reads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            return Path(environment[name]).expanduser()
    if environment.get("HF_HOME"):
        return Path(environment["HF_HOME"]).expanduser() / "hub"
    home = Path(environment.get("HOME") or Path.home())
    caches = Path(environment.get("XDG_CACHE_HOME") or home / ".cache").expanduser()
    return caches / "huggingface" / "hub"


def _snapshot(cache: Path, model: str) -> Path | None:
    """Of the newest revision that was downloaded; None: none was, or it is no id."""
    if len(model.split("/")) > 2 or ".." in model:  # noqa: PLR2004  # ORG/NAME, or NAME
        return None
    repository = cache / f"models--{model.replace('/', '--')}"
    main = repository / "refs" / "main"
    return repository / "snapshots" / main.read_text().strip() if main.is_file() else None


def _look(path: Path) -> ModelFiles:
    if path.is_file():
        return ModelFiles(path, path.stat().st_size, complete=True)
    sizes = dict(_weights(path))
    shards = _shards(path / INDEX)
    # A directory may hold the same weights in several formats, of which one is loaded.
    chosen = shards or _of_one_format(sizes)
    complete = bool(chosen) and chosen <= sizes.keys() and _has_the_rest(path)
    weights = sum(sizes[name] for name in chosen & sizes.keys())
    return ModelFiles(path, weights, complete)


def _weights(directory: Path) -> Iterator[tuple[str, int]]:
    for file in directory.iterdir():
        # A link of the cache whose file is gone is none.
        if file.suffix in WEIGHT_SUFFIXES and file.is_file():
            yield file.name, file.stat().st_size


def _of_one_format(sizes: Mapping[str, int]) -> set[str]:
    names = {name for name in sizes if name.endswith(".safetensors")}
    return names or set(sizes)


def _shards(index: Path) -> set[str]:
    """The files that the index names; none if there is no index that can be read."""
    try:
        if index.stat().st_size > LARGEST_JSON:
            return set()
        weights = json.loads(index.read_bytes())["weight_map"]
        return {str(name) for name in weights.values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()


def _has_the_rest(directory: Path) -> bool:
    """Its configuration and its tokenizer, of whatever kind."""
    names = {file.name for file in directory.iterdir() if file.is_file()}
    tokenizes = any(
        name.startswith(("tokenizer", "vocab", "spiece", "tekken")) or name.endswith(".tiktoken")
        for name in names
    )
    return "config.json" in names and tokenizes
