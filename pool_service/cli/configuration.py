"""The commands about the configuration file."""

import asyncio
from pathlib import Path

import click

from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.runtime.registry import Runtimes
from pool_service.cli.appearance import warn
from pool_service.cli.outcome import ExitCode, Failure, invalid
from pool_service.cli.text import safe
from pool_service.config import ConfigError, ConfigSource
from pool_service.preflight import find_problems


def check(file: Path) -> None:
    """Print what is wrong with a configuration; raise Failure if a listed model cannot start."""
    source = ConfigSource(file, {}, {})
    try:
        config = source.load()
    except ConfigError as error:
        raise invalid(error) from error
    runtimes = Runtimes(config.all_runtime_options, config.service.state_dir)
    problems = asyncio.run(find_problems(config, runtimes, machine_memory()))
    for problem in problems:
        if not problem.is_error:
            warn(f"{source.name_of(problem.path)}: {problem.what}")
    errors = [f"{source.name_of(one.path)}: {one.what}" for one in problems if one.is_error]
    if errors:
        headline = f"the configuration in {file} is valid, but not all of it can work here:"
        raise Failure(headline, ExitCode.USAGE, errors)
    click.echo(safe(f"{file} is valid"))
