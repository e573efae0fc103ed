"""Comparison of two configurations by some of their keys."""

from collections.abc import Iterable

from pydantic import BaseModel

from pool_service.config.errors import KeyPath


def differing(keys: Iterable[KeyPath], old: BaseModel, new: BaseModel) -> Iterable[KeyPath]:
    """Return those of `keys` whose values differ between two configurations."""
    return [path for path in keys if _value(old, path) != _value(new, path)]


def _value(config: BaseModel, path: KeyPath) -> object:
    section, key = path
    return getattr(getattr(config, section), key)
