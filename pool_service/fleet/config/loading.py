"""Loading a front's configuration: its layout, and the keys that a reload cannot apply."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

from pool_service.config.comparison import differing
from pool_service.config.errors import KeyPath, key_name, tables
from pool_service.config.layout import Layout
from pool_service.config.loading import FLEET_PREFIX, Source
from pool_service.fleet.config.contradictions import contradictions
from pool_service.fleet.config.front_config import FrontConfig

FRONT = Layout(
    root=FrontConfig,
    main="front",
    prefix=FLEET_PREFIX,
    contradictions=contradictions,
    harm="where models run and who may call",
    short=frozenset({"members"}),
)
"""The configuration of a front."""

FrontSource: TypeAlias = Source[FrontConfig]

_APPLIED_BY_RELOAD = {"lost_after", "beat"}

RESTART_KEYS: tuple[KeyPath, ...] = tuple(
    (section, key)
    for section in ("front", "member_tls", "etcd", "kubernetes", "ray", "http", "trace", "tls")
    for key in tables(FrontConfig)[section].model_fields
    if key not in _APPLIED_BY_RELOAD
)
"""Keys that are read only when the front starts."""


def front_source(
    config_file: Path | None, overrides: Mapping[str, object], environ: Mapping[str, str]
) -> FrontSource:
    """Return the sources of a front's configuration."""
    return Source(FRONT, config_file, overrides, environ)


def restart_needed(old: FrontConfig, new: FrontConfig) -> tuple[str, ...]:
    """Return the names of the keys that differ and need a restart."""
    return tuple(key_name(path) for path in differing(RESTART_KEYS, old, new))
