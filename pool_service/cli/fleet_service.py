"""Runs the front of a fleet, and checks its configuration."""

import os
from collections.abc import Mapping
from pathlib import Path

import click

from pool_service.cli.exit_codes import ExitCode, Failure, config_failure
from pool_service.cli.format import safe
from pool_service.fleet.config import ConfigError, FrontConfig, FrontSource, front_source


def serve(config_file: Path | None, options: Mapping[str, object]) -> int:
    """Run the front until a signal ends it; return its exit code. Raises Failure."""
    overrides = {name: value for name, value in options.items() if value not in {None, ()}}
    source = front_source(config_file, overrides, os.environ)
    config = _loaded(source)
    try:
        from pool_service.fleet.app import run
    except ImportError as error:
        raise Failure(
            f"cannot run the front of a fleet: the package {error.name!r} is missing. Install the "
            "extra: pip install 'pool-service[fleet]'.",
            ExitCode.USAGE,
        ) from error
    return run(source, config)


def check(file: Path) -> None:
    """Print that a configuration is valid. Raises Failure if it is not."""
    _loaded(front_source(file, {}, {}))
    click.echo(safe(f"{file} is valid"))


def _loaded(source: FrontSource) -> FrontConfig:
    try:
        return source.load()
    except ConfigError as error:
        raise config_failure(error) from error
