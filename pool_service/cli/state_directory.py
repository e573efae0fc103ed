"""The state directory that a command reads or changes without a service."""

import os
from pathlib import Path

import click

from pool_service.cli.exit_codes import config_failure
from pool_service.config import ConfigError, load
from pool_service.paths import PathFlaw, absolute


def state_directory(config_file: Path | None, given: str | None) -> Path:
    """Return the directory that is given, else that of the configuration.

    The configuration is not read without need.
    """
    if given is not None:
        return absolute_directory(given)
    try:
        return load(config_file, {}, os.environ).service.state_dir
    except ConfigError as error:
        raise config_failure(error) from error


def configured_clients(config_file: Path | None) -> frozenset[str]:
    """Return the names of [clients]; none if the configuration cannot be read."""
    try:
        return frozenset(load(config_file, {}, os.environ).clients)
    except ConfigError:
        return frozenset()


def absolute_directory(given: str) -> Path:
    """Return the absolute path of a directory given by --state-dir. Raises UsageError."""
    try:
        return absolute(given)
    except PathFlaw as flaw:
        raise click.UsageError(f"--state-dir {flaw}") from flaw
