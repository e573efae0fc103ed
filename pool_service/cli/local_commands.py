"""The commands about the program that serves the models."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.provision import Progress, Provisioner
from pool_service.adapters.runtime.registry import Runtimes
from pool_service.cli.appearance import warn
from pool_service.cli.exit_codes import ExitCode, Failure, invalid
from pool_service.cli.format import json_object, safe
from pool_service.config import Config, ConfigError, ConfigSource, load
from pool_service.preflight import find_problems


def install(config_file: Path | None) -> None:
    """Install the runtime unless it is, and print the path of its program."""
    provisioner = Provisioner(_config(config_file).runtime_options.data_dir)
    if provisioner.is_current():
        click.echo("it is installed already", err=True)
    with _bar() if sys.stderr.isatty() else _lines() as progress:
        path = asyncio.run(provisioner.install(progress))
    click.echo(safe(str(path)))


def show(config_file: Path | None, *, as_json: bool) -> None:
    """Print which program would be started, without installing anything."""
    description = asyncio.run(CommandRuntime(_config(config_file).runtime_options).describe())
    if as_json:
        click.echo(json_object(description))
        return
    click.echo(f"path:         {safe(description.path)}")
    click.echo(f"found:        {description.found}")
    click.echo(f"kind:         {description.kind}")
    click.echo(f"version:      {safe(description.version or 'not known')}")
    click.echo(f"interpreter:  {safe(description.interpreter or 'not known')}")


def _config(file: Path | None) -> Config:
    try:
        return load(file, {}, os.environ)
    except ConfigError as error:
        raise invalid(error) from error


@contextmanager
def _lines() -> Iterator[Progress]:
    """Each step in a line, for a log."""
    yield lambda done, total, text: click.echo(f"[{done}/{total}] {safe(text)}", err=True)


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar, for a terminal."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

    from pool_service.cli.terminal import display

    count, text = MofNCompleteColumn(), TextColumn("{task.description}")
    with display(BarColumn(), count, TimeElapsedColumn(), text) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total, text: bar.update(
            task, completed=done, total=total, description=escape(safe(text))
        )


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
