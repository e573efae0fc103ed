"""The keys that a reload cannot apply, and which of them differ between two configurations."""

from dataclasses import fields

from pool_service.config.config import Config
from pool_service.config.errors import KeyPath, key_name, tables
from pool_service.core.limits import Limits

_AT_ONCE = {"only_listed", "trusted_directories", *(field.name for field in fields(Limits))}

RESTART_KEYS: tuple[KeyPath, ...] = tuple(
    (section, key)
    for section in ("service", "logs")
    for key in tables()[section].model_fields
    if key not in _AT_ONCE
)
"""Keys that are read once, when the service starts; all others are applied by a reload."""


def restart_needed(old: Config, new: Config) -> tuple[str, ...]:
    """The names of the keys that differ and that only a restart applies."""
    return tuple(key_name(path) for path in RESTART_KEYS if _value(old, path) != _value(new, path))


def _value(config: Config, path: KeyPath) -> object:
    section, key = path
    return getattr(getattr(config, section), key)
