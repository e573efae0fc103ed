"""The configuration: one TOML file, the environment above it, flags above both."""

from pool_service.config.loading import ConfigSource, load
from pool_service.config.problems import ConfigError
from pool_service.config.reload import restart_needed
from pool_service.config.whole import Config

__all__ = ["Config", "ConfigError", "ConfigSource", "load", "restart_needed"]
