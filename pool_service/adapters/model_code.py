"""Whether a model brings code of its own, which loading it would run.

By what is in its directory, since that is what loaders go by: mlx-lm runs the file that
`model_file` names even where nobody trusts it (CVE-2026-5843, before 0.32), and others follow
`auto_map` and `custom_pipelines`, or import a *.py that lies beside the weights.
"""

import json
from collections.abc import Iterator
from pathlib import Path

CODE_KEYS = frozenset({"model_file", "auto_map", "custom_pipelines"})
LARGEST_CONFIG = 1024 * 1024
"""Bytes; a configuration is far smaller, a vocabulary is not."""

MOST_FILES = 10_000
"""Files that are looked at; a model has some dozens."""


def code_in(directory: Path) -> tuple[str, ...]:
    """What brings code, such as "modeling.py" or "config.json: auto_map". Blocking."""
    try:
        files = [file for _, file in zip(range(MOST_FILES), _files(directory), strict=False)]
    except OSError:
        return ()
    programs = [str(file.relative_to(directory)) for file in files if file.suffix == ".py"]
    configs = [file for file in files if file.suffix == ".json" and file.parent == directory]
    return (*sorted(programs), *(found for file in sorted(configs) for found in _keys(file)))


def _files(directory: Path) -> Iterator[Path]:
    for entry in directory.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        else:
            yield entry


def _keys(file: Path) -> list[str]:
    try:
        if file.stat().st_size > LARGEST_CONFIG:
            return []
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        # What no loader can read runs nothing either.
        return []
    return [f"{file.name}: {key}" for key in sorted(_names(content) & CODE_KEYS)]


def _names(content: object) -> set[str]:
    """The keys of all objects in it."""
    names: set[str] = set()
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            names |= value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
    return names
