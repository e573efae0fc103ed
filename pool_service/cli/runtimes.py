"""The commands about the program that serves the models."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.provision import Progress, Provisioner
from pool_service.cli.outcome import invalid
from pool_service.cli.text import json_object, safe
from pool_service.config import Config, ConfigError, load


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
