"""The key of kept prompts: equal only for servers that compute the same from the same prompt."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from pool_service.adapters.runtime.search import Versions
from pool_service.core.types import Settings

KEY_DIGITS = 32
"""Hexadecimal digits: 128 bits, as a collision would give one model the prompts of another."""


def prompt_key(settings: Settings, versions: Versions, models: Iterable[Path]) -> str:
    """Return the key of the prompts of servers with these settings. Blocking.

    versions: of the runtime's program, and of the packages with which it computes.
    models: the directories, or only files, of all models that a server loads. Their files count
        by name, size and time of change: the weights, the vocabulary, the chat template.

    Raises OSError if the files cannot be listed.
    """
    found = (
        (settings.runtime_model, settings.config_hash),
        (versions.own, versions.computing),
        [_stamps(path) for path in models],
    )
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:KEY_DIGITS]


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change (ns) of the files of a model."""
    if not path.is_dir():
        return [_stamp(path.name, path.stat())]
    with os.scandir(path) as entries:
        return sorted(_stamp(entry.name, entry.stat()) for entry in entries if entry.is_file())


def _stamp(name: str, status: os.stat_result) -> tuple[str, int, int]:
    return name, status.st_size, status.st_mtime_ns
