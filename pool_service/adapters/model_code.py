"""Whether a model brings code of its own, which loading it would run.

By what is in its directory, since that is what loaders go by: mlx-lm runs the file that
`model_file` names even where nobody trusts it (CVE-2026-5843, before 0.32), and others follow
`auto_map` and `custom_pipelines`, or import a *.py that lies beside the weights.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

CODE_KEYS = frozenset({"model_file", "auto_map", "custom_pipelines"})
_SIGNS = (*(key.encode() for key in CODE_KEYS), b"\\u005", b"\\u006", b"\\u007", b"\0")
"""One of these is in every file that has such a key: its name as it is, an escaped letter of it
(all are U+005F to U+007A), or a letter of several bytes. Reading a vocabulary as JSON takes a
tenth of a second, and looking for them some milliseconds."""

LARGEST_CONFIG = 64 * 1024 * 1024
"""Bytes; the largest vocabularies have some 30 MB, a configuration some KB."""

MOST_FILES = 10_000
"""Files that are looked at; a model has some dozens."""


def code_in(directory: Path) -> tuple[str, ...]:
    """What brings code, such as "modeling.py" or "config.json: auto_map". Blocking.

    What cannot be checked to its end counts as such too: else it would be enough to hide the
    code behind ten thousand files or in a configuration of a gigabyte.
    """
    files = list(islice(_files(directory), MOST_FILES + 1))
    found = sorted(str(file.relative_to(directory)) for file in files if file.suffix == ".py")
    configs = (file for file in files if file.suffix == ".json" and file.parent == directory)
    found += [each for file in sorted(configs) for each in _keys(file)]
    if len(files) > MOST_FILES:
        found.append(f"more than {MOST_FILES} files, which are too many to be checked")
    return tuple(found)


def _files(directory: Path) -> Iterator[Path]:
    """Its own files first. A directory that cannot be read has none for a loader either."""
    left = [directory]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(Path(entry))
                else:
                    yield Path(entry)


def _keys(file: Path) -> list[str]:
    try:
        if file.stat().st_size > LARGEST_CONFIG:
            return [f"{file.name}: too large to be checked"]
        raw = file.read_bytes()
        if not any(sign in raw for sign in _SIGNS):
            return []
        content = json.loads(raw)
    except RecursionError:
        # How deep is too deep differs from one Python to another.
        return [f"{file.name}: nested too deep to be checked"]
    except (OSError, ValueError):
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
