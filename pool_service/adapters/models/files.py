"""Locating a model's files on this machine, and the size of its weights.

A model is an absolute path, or an id of the Hugging Face Hub. In the Hub's cache,
models--ORG--NAME/refs/main names the snapshot that is loaded, as its documentation says.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters.models.weight_files import weight_files
from pool_service.paths import absolute, home_directory

WEIGHT_SUFFIXES = frozenset({".safetensors", ".gguf", ".npz", ".bin", ".pt", ".pth"})
INDEX = "model.safetensors.index.json"
_CACHES = {
    "HF_HUB_CACHE": "",
    "HUGGINGFACE_HUB_CACHE": "",
    "HF_HOME": "hub",
    "XDG_CACHE_HOME": "huggingface/hub",
}
"""The variables that locate the Hub's cache, in the order of precedence, each with the place of the
cache below its value."""

_APPLE_DOUBLE = bytes.fromhex("00051607")
MAX_INDEX_BYTES = 64 * 1024 * 1024
"""The largest index that is read; those of the largest models have some megabytes."""

MAX_REVISION_BYTES = 4096
"""The longest name of a revision that is read; longer ones exceed the length of any path."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on disk.

    path: its directory, or its only file.
    weight_bytes: bytes of its tensors.
    complete: whether all files are there that loading it needs.
    """

    path: Path
    weight_bytes: int
    complete: bool


class TooLarge(OSError):
    """A file exceeds the size that is read of its kind."""


def locate(runtime_model: str, environment: Mapping[str, str]) -> ModelFiles | None:
    """Return the files of a model; None if there are none. Blocking.

    Files that exist and cannot be read are reported as incomplete.
    environment: of the process that is to load the model; locates the cache.
    """
    path = Path(runtime_model)
    try:
        place = path if path.is_absolute() else _snapshot(hub_cache(environment), runtime_model)
        if place is None or not _exists(place):
            return None
    except (OSError, ValueError):
        return None
    try:
        return _inspect(place)
    except OSError:
        return ModelFiles(place, 0, complete=False)


def read_within(file: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file. Raises TooLarge above `max_bytes`, else OSError."""
    content = _read_start(file, max_bytes + 1)
    if len(content) > max_bytes:
        raise TooLarge(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return content


def is_apple_double(file: Path) -> bool:
    """Return whether a file is macOS's AppleDouble metadata (._NAME), as on exFAT and SMB disks.

    Both name and content are checked, so that nothing else can hide behind the name; no loader
    accepts a file that begins with this content.
    """
    if not file.name.startswith("._"):
        return False
    try:
        return _read_start(file, len(_APPLE_DOUBLE)) == _APPLE_DOUBLE
    except OSError:
        return False


def _read_start(file: Path, count: int) -> bytes:
    """Return the first `count` bytes of a regular file. Raises OSError, for pipes and devices too.

    Never blocks, as opening a pipe would.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    # By an opener, which closes the descriptor of a directory: os.fdopen leaves that open.
    with open(file, "rb", opener=lambda name, _: os.open(name, flags)) as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is no ordinary file", str(file))
        return opened.read(count)


def hub_cache(environment: Mapping[str, str]) -> Path | None:
    """Return the directory of the Hub's cache, by the variables that huggingface_hub reads.

    None if none of them is set and there is no home directory. Raises PathFlaw.
    """
    for name, below in _CACHES.items():
        if environment.get(name):
            return absolute(environment[name], environment) / below
    home = home_directory(environment)
    return home / ".cache/huggingface/hub" if home else None


def _snapshot(cache: Path | None, model: str) -> Path | None:
    """Return the directory of the downloaded revision; None if not an id. Raises OSError."""
    if cache is None or len(model.split("/")) > 2 or ".." in model:  # noqa: PLR2004  # ORG/NAME, or NAME
        return None
    repository = cache / f"models--{model.replace('/', '--')}"
    revision = read_within(repository / "refs" / "main", MAX_REVISION_BYTES)
    return repository / "snapshots" / revision.decode().strip()


def _exists(path: Path) -> bool:
    """Return whether a path exists; True if it cannot be read, as a loader may be able to."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _inspect(path: Path) -> ModelFiles:
    if path.is_file():
        return ModelFiles(path, path.stat().st_size, complete=True)
    sizes = dict(_weights(path))
    chosen = weight_files(sizes, _indexed_files(path / INDEX))
    weights = sum(sizes[name] for name in chosen.names)
    return ModelFiles(path, weights, chosen.complete and _has_config_and_tokenizer(path))


def _weights(directory: Path) -> Iterator[tuple[str, int]]:
    for file in directory.iterdir():
        if file.suffix in WEIGHT_SUFFIXES and _is_file(file) and not is_apple_double(file):
            yield file.name, file.stat().st_size


def _is_file(path: Path) -> bool:
    """Return whether a path is a file; False for a dangling link, as the cache may have."""
    try:
        return path.is_file()
    except OSError:
        return False


def _indexed_files(index: Path) -> set[str]:
    """Return the files that the index names; empty if it cannot be read."""
    try:
        weights = json.loads(read_within(index, MAX_INDEX_BYTES))["weight_map"]
        return {str(name) for name in weights.values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return set()


def _has_config_and_tokenizer(directory: Path) -> bool:
    """Return whether a model has a configuration and a tokenizer of any kind."""
    names = {
        file.name for file in directory.iterdir() if _is_file(file) and not is_apple_double(file)
    }
    tokenizes = any(
        name.startswith(("tokenizer", "vocab", "spiece", "tekken")) or name.endswith(".tiktoken")
        for name in names
    )
    return "config.json" in names and tokenizes
