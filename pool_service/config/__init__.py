"""The configuration: one TOML file, the environment above it, flags above both."""

from pool_service.config.config import Config
from pool_service.config.errors import ConfigError
from pool_service.config.loading import ConfigSource, load
from pool_service.config.restart_keys import restart_needed

__all__ = ["Config", "ConfigError", "ConfigSource", "load", "restart_needed"]
