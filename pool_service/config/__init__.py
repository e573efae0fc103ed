"""The configuration: one TOML file, the environment above it, flags above both."""

from pool_service.config.loading import load
from pool_service.config.problems import ConfigError
from pool_service.config.schema import Config

__all__ = ["Config", "ConfigError", "load"]
