"""The configuration: flags override environment variables, which override one TOML file.

The names of a service's configuration are imported when they are used: a front of a fleet uses
other modules of this package, and its start would take a quarter longer with these.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pool_service.config.config import Config
    from pool_service.config.errors import ConfigError
    from pool_service.config.restart_keys import restart_needed
    from pool_service.config.service_source import ConfigSource, load

__all__ = ["Config", "ConfigError", "ConfigSource", "load", "restart_needed"]

_MODULES: Final = {
    "Config": "config",
    "ConfigError": "errors",
    "ConfigSource": "service_source",
    "load": "service_source",
    "restart_needed": "restart_keys",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - of any type
    """Import a name of this package when it is used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
