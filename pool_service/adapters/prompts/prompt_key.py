"""The key of kept prompts: equal only for servers that compute the same from the same prompt."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from pool_service.adapters.models.files import TooLarge, read_within
from pool_service.core.types import Settings

KEY_DIGITS = 32
"""Hexadecimal digits: 128 bits, as a collision would give one model the prompts of another."""

MAX_CONFIG_BYTES = 1024 * 1024
"""The largest config.json that is read; those of models have some kilobytes."""

_OTHER_INPUTS = ("vision", "audio", "image", "video", "speech", "vlfor", "conditionalgeneration")
"""Words in the keys and architectures of a config.json that stand for inputs other than text."""


def prompt_key(settings: Settings, version: str, models: Iterable[Path]) -> str:
    """Return the key of the prompts of servers with these settings. Blocking.

    version: of the runtime's program; empty if not known.
    models: the directories, or only files, of all models that a server loads. Their files count
        by name, size and time of change: the weights, the vocabulary, the chat template.

    Raises OSError if the files cannot be listed.
    """
    found = [settings.runtime_model, settings.config_hash, version]
    found += [json.dumps(_stamps(path)) for path in models]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:KEY_DIGITS]


def _stamps(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change (ns) of the files of a model."""
    if not path.is_dir():
        return [_stamp(path.name, path.stat())]
    with os.scandir(path) as entries:
        return sorted(_stamp(entry.name, entry.stat()) for entry in entries if entry.is_file())


def _stamp(name: str, status: os.stat_result) -> tuple[str, int, int]:
    return name, status.st_size, status.st_mtime_ns


def reads_only_text(model: Path) -> bool:
    """Return whether a model certainly takes nothing but text, by its config.json. Blocking."""
    try:
        config = json.loads(read_within(model / "config.json", MAX_CONFIG_BYTES))
    except (OSError, TooLarge, ValueError, RecursionError):
        return False
    if not isinstance(config, Mapping):
        return False
    names = [str(one) for one in (*config, *_list(config.get("architectures")))]
    return not any(word in name.lower() for name in names for word in _OTHER_INPUTS)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
