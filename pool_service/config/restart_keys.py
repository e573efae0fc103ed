"""Keys that a reload cannot apply, and their comparison between two configurations."""

from dataclasses import fields

from pool_service.config.comparison import differing
from pool_service.config.config import Config
from pool_service.config.errors import KeyPath, key_name, tables
from pool_service.core.limits import Limits

_APPLIED_BY_RELOAD = {
    "home_model",
    "only_listed",
    "trusted_directories",
    *("only_fleet", "hold_grace"),
    *(field.name for field in fields(Limits)),
}

RESTART_KEYS: tuple[KeyPath, ...] = tuple(
    (section, key)
    for section in ("service", "tls", "logs", "http", "trace", "fleet", "etcd")
    for key in tables(Config)[section].model_fields
    if key not in _APPLIED_BY_RELOAD
)
"""Keys that are read only when the service starts."""


def restart_needed(old: Config, new: Config) -> tuple[str, ...]:
    """Return the names of the keys that differ and need a restart."""
    return tuple(key_name(path) for path in differing(RESTART_KEYS, old, new))
