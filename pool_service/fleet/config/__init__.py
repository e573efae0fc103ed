"""The configuration of a front: flags override variables, which override one TOML file."""

from pool_service.config.errors import ConfigError
from pool_service.fleet.config.front_config import Credentials, FrontConfig, Member
from pool_service.fleet.config.loading import FrontSource, front_source, restart_needed

__all__ = [
    "ConfigError",
    "Credentials",
    "FrontConfig",
    "FrontSource",
    "Member",
    "front_source",
    "restart_needed",
]
