"""What is wrong with a configuration, in words that name the key and help."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pool_service.config.config import Config
from pool_service.config.types import Flaw, Form

KeyPath = tuple[str, ...]
"""The way to a key: ("service", "listen") or ("models", NAME, "keep_alive")."""

RENAMED = {
    "backoff_first": "backoff_initial",
    "backoff_most": "backoff_max",
    "memory_ceiling": "memory_limit",
    "min_residency": "grace_period",
    "pulse_interval": "probe_interval",
    "pulse_limit": "probe_limit",
    "survey_interval": "sample_interval",
}
"""Keys by the names that they had before 0.1.0; an error names the new one."""

_LONGEST_VALUE = 60

_FEW = 6
"""So many keys of a table can be named in a message."""


class ConfigError(Exception):
    """The configuration cannot be used; the message says where, why and what would be right.

    headline: the message without the problems, where these can be told apart.
    """

    def __init__(self, headline: str, problems: Iterable[str] = ()) -> None:
        self.headline = headline
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__(f"{headline}: {'; '.join(self.problems)}" if self.problems else headline)


def error_of(file: Path | None, problems: Iterable[str]) -> ConfigError:
    """All problems, each once."""
    place = f"the configuration in {file}" if file else "the configuration"
    return ConfigError(f"{place} is not valid", problems)


def explained(error: ValidationError, places: Mapping[KeyPath, str]) -> Iterator[str]:
    """Each problem with its key, or with the variable or flag (`places`) that set it."""
    for details in error.errors(include_url=False):
        path = key_path(details["loc"])
        yield f"{places.get(path) or key_name(path)}: {_what(details, path)}"


def key_path(location: tuple[int | str, ...]) -> KeyPath:
    """The key that pydantic's location is in or at."""
    depth = 3 if location[0] in named_tables() else 2
    names = [str(part) for part in location[:depth]]
    # How pydantic says that the name itself, and not what it names, is wrong.
    return tuple(names[:2]) if names[2:] == ["[key]"] else tuple(names)


def key_name(path: KeyPath) -> str:
    """A key as one would look for it: service.listen, models."NAME".keep_alive."""
    if path[0] == "models" and path[1:]:
        return ".".join((path[0], _shown(path[1]), *map(_bare, path[2:])))
    return ".".join(map(_bare, path))


def form_of(field: FieldInfo) -> Form:
    """How the field's values look."""
    return next(part for part in field.metadata if isinstance(part, Form))


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that was most likely meant."""
    return next(iter(difflib.get_close_matches(name, known, 1, cutoff)), None)


def tables() -> dict[str, type[BaseModel]]:
    """The tables of the file that have fixed names, and what is in them."""
    return {
        name: field.annotation
        for name, field in Config.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def named_tables() -> dict[str, type[BaseModel]]:
    """The tables that hold tables of any names, and what is in each of these."""
    return {
        name: get_args(field.annotation)[1]
        for name, field in Config.model_fields.items()
        if name not in tables()
    }


def example_of(table: str) -> str:
    """How one of a named table's tables is called where any is meant."""
    return 'models."NAME"' if table == "models" else f"{table}.NAME"


def _what(details: ErrorDetails, path: KeyPath) -> str:
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Flaw):
        return str(cause)
    if details["type"] == "extra_forbidden":
        hint = _suggestion(path) or _quotes_missing(path, details["input"]) or _choice(path)
        return f"there is no such key{hint}"
    field = _field(path)
    if field is None:
        is_named = path[0] in named_tables() and not path[1:]
        return f"must be a table, [{example_of(path[0]) if is_named else key_name(path)}]"
    return f"must be {form_of(field).wanted}, not {_shown(details['input'])}"


def _suggestion(path: KeyPath) -> str:
    """Guess what was meant: the same key of another table, or one that is spelt alike."""
    *parents, key = path
    key = RENAMED.get(key, key)
    named = {example_of(name): table for name, table in named_tables().items()}
    for name, table in (tables() | named).items():
        known = key if key in table.model_fields else key.removeprefix(f"{name}_")
        if known in table.model_fields:
            return f", did you mean {name}.{known}?"
    meant = closest(key, _keys(tuple(parents)))
    return f", did you mean {key_name((*parents, meant))}?" if meant else ""


def _choice(path: KeyPath) -> str:
    """Tell what there is instead, where that can be told in a few words."""
    keys = list(_keys(path[:-1]))
    return f"; there is: {', '.join(keys)}" if 0 < len(keys) <= _FEW else ""


def _quotes_missing(path: KeyPath, value: object) -> str:
    """A bare name of a model with a dot in it is TOML's way to write a table in a table."""
    if path[0] not in named_tables() or not isinstance(value, dict):
        return ""
    names = [*path[1:]]
    while len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        names += value
        value = inner
    return f"; a name with dots is written in quotes, [{key_name((path[0], '.'.join(names)))}]"


def _keys(parents: KeyPath) -> Iterable[str]:
    section = _section(parents) if parents else Config
    return section.model_fields if section else ()


def _field(path: KeyPath) -> FieldInfo | None:
    """The key's field; None for a table."""
    section = _section(path[:-1]) if len(path) > 1 else None
    return section.model_fields.get(path[-1]) if section else None


def _section(path: KeyPath) -> type[BaseModel] | None:
    if path[0] in named_tables():
        return named_tables()[path[0]] if path[1:] else None
    return tables().get(path[0])


def _bare(key: str) -> str:
    return key if key.replace("-", "_").isidentifier() and key.isascii() else _shown(key)


def _shown(value: object) -> str:
    """A value on one line, in ASCII, and not too long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
