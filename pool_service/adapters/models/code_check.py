"""Detection of a model's own code, which loading the model would run.

The content of the model's directory decides, as it does for loaders: mlx-lm before 0.32 runs the
file that `model_file` names even if the code is not trusted (CVE-2026-5843); other loaders follow
`auto_map` and `custom_pipelines`, or import a *.py beside the weights.
"""

import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pool_service.adapters.models.files import TooLarge, is_apple_double, read_within
from pool_service.adapters.system.writers import is_directory

CODE_KEYS = frozenset({"model_file", "auto_map", "custom_pipelines"})
_MARKERS = (*(key.encode() for key in CODE_KEYS), b"\\u005", b"\\u006", b"\\u007", b"\0")
"""A JSON file without any of these bytes has none of CODE_KEYS, and need not be parsed.

A key is written plainly, or with an escape for one of its letters (U+005F to U+007A: such an escape
begins with \\u005, \\u006 or \\u007), or in UTF-16 or UTF-32, which have NULs. Searching a large
vocabulary for the markers takes some milliseconds; parsing it, a tenth of a second.
"""

CODE_SUFFIXES = (".py", ".pyc", ".pyd", ".so")
"""Suffixes of files that Python can import."""

MAX_CONFIG_BYTES = 64 * 1024 * 1024
"""The largest JSON file checked; large vocabularies have some 30 MB, configurations some KB."""

MAX_FILES = 10_000
"""Files of one model that are checked; a model has some dozens."""


def code_in(directory: Path) -> tuple[str, ...]:
    """Return where a model has code, such as "modeling.py" or "config.json: auto_map". Blocking.

    Files that cannot be checked completely count as well: otherwise code could hide behind ten
    thousand files, in a configuration of a gigabyte, or in a directory that cannot be listed.
    """
    found: list[str] = []
    configs: list[Path] = []
    seen = 0
    for file, flaw in islice(_files(directory), MAX_FILES + 1):
        seen += 1
        # File names are case-insensitive on macOS.
        name = file.name.casefold()
        if flaw:
            found.append(f"{file.relative_to(directory)}: {flaw}")
        elif name.endswith(CODE_SUFFIXES):
            found.append(str(file.relative_to(directory)))
        elif name.endswith(".json") and file.parent == directory:
            configs.append(file)
    found.sort()
    found += [each for file in sorted(configs) for each in _code_keys(file)]
    if seen > MAX_FILES:
        found.append(f"more than {MAX_FILES} files, which are too many to be checked")
    return tuple(found)


def _files(directory: Path) -> Iterator[tuple[Path, str]]:
    """Yield a model's files, its own directory first, each with why it cannot be checked ("").

    Directories behind links are included, as Python imports from them too.
    """
    left, entered = [directory], set[tuple[int, int]]()
    while left:
        current = left.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                for entry in entries:
                    if is_directory(entry):
                        left.append(Path(entry))
                    elif not is_apple_double(Path(entry)):
                        yield Path(entry), ""
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            yield current, _unchecked(error)


def _code_keys(file: Path) -> list[str]:
    """Return the CODE_KEYS in a JSON file, or why it cannot be checked, behind the file's name."""
    try:
        raw = read_within(file, MAX_CONFIG_BYTES)
        content = json.loads(raw) if any(marker in raw for marker in _MARKERS) else None
    except (FileNotFoundError, IsADirectoryError):
        return []
    except (OSError, ValueError, RecursionError) as error:
        return [f"{file.name}: {_unchecked(error)}"]
    return [f"{file.name}: {key}" for key in sorted(_all_keys(content) & CODE_KEYS)]


def _unchecked(error: Exception) -> str:
    match error:
        case TooLarge():
            return "too large to be checked"
        case OSError():
            return f"cannot be checked ({error.strerror})"
        case RecursionError():
            # The permitted depth differs between Python versions.
            return "nested too deep to be checked"
        case _:
            # A loader may accept files that this check does not, as in another encoding.
            return "no JSON, so it cannot be checked"


def _all_keys(content: object) -> set[str]:
    """Return the keys of all objects in a JSON document."""
    keys: set[str] = set()
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            keys |= value.keys()
            left += value.values()
        elif isinstance(value, list):
            left += value
    return keys
