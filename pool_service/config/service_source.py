"""The sources of a service's configuration.

A front of a fleet does without this module, as the types of all keys of a service take long to
build.
"""

from collections.abc import Mapping
from pathlib import Path

from pool_service.config.config import Config
from pool_service.config.contradictions import contradictions
from pool_service.config.errors import RENAMED
from pool_service.config.layout import Layout
from pool_service.config.loading import Source

SERVICE = Layout(
    root=Config,
    main="service",
    prefix="POOL_SERVICE_",
    contradictions=contradictions,
    with_places=Config.with_places,
    harm="the programs that run as you",
    renamed=RENAMED,
)
"""The configuration of a service."""


class ConfigSource(Source[Config]):
    """The sources of a service's configuration."""

    __slots__ = ()

    def __init__(
        self,
        config_file: Path | None,
        overrides: Mapping[str, object],
        environ: Mapping[str, str],
    ) -> None:
        super().__init__(SERVICE, config_file, overrides, environ)


def load(
    config_file: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    may_be_empty: bool = True,
) -> Config:
    """Return the configuration of a service, as `Source.load` does."""
    return ConfigSource(config_file, overrides, environ).load(may_be_empty=may_be_empty)
