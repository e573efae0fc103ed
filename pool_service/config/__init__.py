"""The configuration: flags override environment variables, which override one TOML file."""

from pool_service.config.config import Config
from pool_service.config.errors import ConfigError
from pool_service.config.loading import ConfigSource, load
from pool_service.config.restart_keys import restart_needed

__all__ = ["Config", "ConfigError", "ConfigSource", "load", "restart_needed"]
