"""Error messages about a configuration: which key is wrong, why, and what would be right."""

import difflib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pool_service.config.layout import Layout, Places
from pool_service.config.types import Flaw, Form

KeyPath = tuple[str, ...]
"""The path of a key: ("service", "listen") or ("models", NAME, "keep_alive")."""

RENAMED = {
    "backoff_first": "backoff_initial",
    "backoff_most": "backoff_max",
    "memory_ceiling": "memory_limit",
    "min_residency": "grace_period",
    "pulse_interval": "probe_interval",
    "pulse_limit": "probe_limit",
    "survey_interval": "sample_interval",
}
"""The present names of keys that were called otherwise before 0.1.0; errors suggest them."""

_MAX_VALUE_LENGTH = 60
"""Characters of a value that a message quotes."""

_MAX_LISTED_KEYS = 6
"""The largest table whose keys a message lists."""


class ConfigError(Exception):
    """The configuration cannot be used; the message says where, why and what would be right.

    headline: the message without the problems.
    problems: the separate problems; empty if the headline says everything.
    """

    def __init__(self, headline: str, problems: Iterable[str] = ()) -> None:
        self.headline = headline
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__(f"{headline}: {'; '.join(self.problems)}" if self.problems else headline)


def config_error(file: Path | None, problems: Iterable[str]) -> ConfigError:
    """Return the error of a configuration with these problems, each mentioned once."""
    place = f"the configuration in {file}" if file else "the configuration"
    return ConfigError(f"{place} is not valid", problems)


def problems_of(error: ValidationError, places: Places, layout: Layout[Any]) -> Iterator[str]:
    """Yield a line for each problem, beginning with the key that it is about.

    places: the variable or flag that set a key, which is named instead of the key.
    """
    for details in error.errors(include_url=False):
        path = _key_path(details["loc"], layout)
        yield f"{places.get(path) or key_name(path)}: {_explanation(details, path, layout)}"


def _key_path(location: tuple[int | str, ...], layout: Layout[Any]) -> KeyPath:
    """Return the path of the key at a location of pydantic's, which may lie within its value."""
    depth = 3 if location[0] in named_tables(layout.root) else 2
    names = [str(part) for part in location[:depth]]
    # Pydantic adds "[key]" if the name of a table is wrong, rather than its content.
    return tuple(names[:2]) if names[2:] == ["[key]"] else tuple(names)


def key_name(path: KeyPath) -> str:
    """Return a key as it is written in the file: service.listen, models."NAME".keep_alive."""
    if path[0] == "models" and path[1:]:
        return ".".join((path[0], _quoted(path[1]), *map(_bare, path[2:])))
    return ".".join(map(_bare, path))


def form_of(field: FieldInfo) -> Form:
    """Return the form of a field's values."""
    return next(part for part in field.metadata if isinstance(part, Form))


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar; None if none is similar.

    cutoff: the least similarity, from 0 to 1.
    """
    return next(iter(difflib.get_close_matches(name, known, 1, cutoff)), None)


def tables(root: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the tables with fixed names, such as [service], and their types."""
    return {
        name: field.annotation
        for name, field in root.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def named_tables(root: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the tables that hold tables of any name, such as [models.NAME], and their types."""
    return {
        name: get_args(field.annotation)[1]
        for name, field in root.model_fields.items()
        if name not in tables(root)
    }


def example_of(table: str) -> str:
    """Return the placeholder for the tables of a named table: models."NAME" for "models"."""
    return 'models."NAME"' if table == "models" else f"{table}.NAME"


def _explanation(details: ErrorDetails, path: KeyPath, layout: Layout[Any]) -> str:
    """Return what is wrong with a key, and what would be right."""
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, Flaw):
        return str(cause)
    if details["type"] == "extra_forbidden":
        return f"there is no such key{_hint(path, details['input'], layout)}"
    field = _field(path, layout.root)
    if field is None:
        is_named = path[0] in named_tables(layout.root) and not path[1:]
        return f"must be a table, [{example_of(path[0]) if is_named else key_name(path)}]"
    if details["type"] == "missing":
        return f"must be set, to {form_of(field).wanted}"
    return f"must be {form_of(field).wanted}, not {_quoted(details['input'])}"


def _hint(path: KeyPath, value: object, layout: Layout[Any]) -> str:
    """Suggest what was meant by a key that does not exist."""
    quotes = _missing_quotes(path, value, layout)
    # The end of a name with dots is no key of its own: mac.lan does not mean san.
    is_name = path[0] in layout.short and not closest(path[-1], _keys(path[:-1], layout.root), 0.8)
    if quotes and is_name:
        return quotes
    return _suggestion(path, layout) or quotes or _known_keys(path, layout)


def _suggestion(path: KeyPath, layout: Layout[Any]) -> str:
    """Suggest a renamed key, the same key of another table, or a key spelt alike."""
    *parents, key = path
    key = layout.renamed.get(key, key)
    named = {example_of(name): table for name, table in named_tables(layout.root).items()}
    for name, table in (tables(layout.root) | named).items():
        # Without the table's name, which variables and flags have: memory_budget is memory.budget.
        known = key if key in table.model_fields else key.removeprefix(f"{name}_")
        if known in table.model_fields:
            return f", did you mean {name}.{known}?"
    meant = closest(key, _keys(tuple(parents), layout.root))
    return f", did you mean {key_name((*parents, meant))}?" if meant else ""


def _known_keys(path: KeyPath, layout: Layout[Any]) -> str:
    """List the keys of the table if it is small."""
    keys = list(_keys(path[:-1], layout.root))
    return f"; there is: {', '.join(keys)}" if 0 < len(keys) <= _MAX_LISTED_KEYS else ""


def _missing_quotes(path: KeyPath, value: object, layout: Layout[Any]) -> str:
    """Suggest quotes if a table's name has a dot, which TOML takes for a table in a table."""
    if path[0] not in named_tables(layout.root) or not _is_table(path, value, layout):
        return ""
    names = [*path[1:]]
    while isinstance(value, dict) and len(value) == 1:
        ((name, inner),) = value.items()
        if not _is_table((path[0], *names, name), inner, layout):
            break
        names.append(name)
        value = inner
    return f"; a name with dots is written in quotes, [{key_name((path[0], '.'.join(names)))}]"


def _is_table(path: KeyPath, value: object, layout: Layout[Any]) -> bool:
    """Return whether a value is a table, or a text that stands for one."""
    table = named_tables(layout.root)[path[0]]
    is_short = path[0] in layout.short and path[-1] not in table.model_fields
    return isinstance(value, dict) or (is_short and isinstance(value, str) and ":" in value)


def _keys(parents: KeyPath, root: type[BaseModel]) -> Iterable[str]:
    section = _section(parents, root) if parents else root
    return section.model_fields if section else ()


def _field(path: KeyPath, root: type[BaseModel]) -> FieldInfo | None:
    """Return the field of a key; None for a table."""
    section = _section(path[:-1], root) if len(path) > 1 else None
    return section.model_fields.get(path[-1]) if section else None


def _section(path: KeyPath, root: type[BaseModel]) -> type[BaseModel] | None:
    if path[0] in named_tables(root):
        return named_tables(root)[path[0]] if path[1:] else None
    return tables(root).get(path[0])


def _bare(key: str) -> str:
    """Return a key without quotes if TOML allows it."""
    return key if key.replace("-", "_").isidentifier() and key.isascii() else _quoted(key)


def _quoted(value: object) -> str:
    """Return a value as JSON in ASCII, on one line, cut at _MAX_VALUE_LENGTH."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _MAX_VALUE_LENGTH else f"{text[: _MAX_VALUE_LENGTH - 1]}…"
