"""The commands that need no service: `runtime install`, `runtime show` and `config check`."""

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
from pool_service.adapters.runtime.runtime_report import RuntimeDescription
from pool_service.cli.appearance import warn
from pool_service.cli.exit_codes import ExitCode, Failure, config_failure
from pool_service.cli.format import json_object, safe
from pool_service.config import Config, ConfigError, ConfigSource, load
from pool_service.config.server_types import DEFAULT_RUNTIME
from pool_service.preflight import find_problems


def install(config_file: Path | None) -> None:
    """Install the runtime unless it is installed, and print the path of its program."""
    provisioner = Provisioner(_config(config_file).runtime_options.data_dir)
    if provisioner.is_current():
        click.echo("already installed", err=True)
    with _progress_bar() if sys.stderr.isatty() else _progress_lines() as progress:
        path = asyncio.run(provisioner.install(progress))
    click.echo(safe(str(path)))


def show(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """Print which program serves models, how it was found, and which promises are kept with it.

    Installs nothing. name: the runtime's; empty: the default one. Raises Failure for another name.
    """
    runtimes = _config(config_file).all_runtime_options
    options = runtimes.get("" if name == DEFAULT_RUNTIME else name)
    if options is None:
        known = ", ".join(sorted(one for one in runtimes if one)) or "none"
        raise Failure(
            f"there is no section [runtimes.{safe(name)}]; the configuration has {known}. Without "
            "NAME, `runtime show` shows [runtime]",
            ExitCode.USAGE,
        )
    description = asyncio.run(CommandRuntime(options).describe())
    if as_json:
        click.echo(json_object(description))
        return
    for label, text in _lines(description):
        click.echo(f"{f'{label}:':<14}{safe(text)}")


def _lines(description: RuntimeDescription) -> Iterator[tuple[str, str]]:
    """Yield what is known of a runtime, each with its label."""
    yield "path", description.path
    yield "found", description.found
    yield "kind", description.kind
    yield (
        "known as",
        description.known_as or "nothing; only the configuration describes this program",
    )
    yield "version", description.version or "not known"
    yield "interpreter", description.interpreter or "not known"
    if description.packages:
        yield "packages", ", ".join(description.packages)
    for promise in description.promises:
        yield promise.subject, promise.how
    for flaw in description.flaws:
        yield "flaw", flaw


def _config(file: Path | None) -> Config:
    try:
        return load(file, {}, os.environ)
    except ConfigError as error:
        raise config_failure(error) from error


@contextmanager
def _progress_lines() -> Iterator[Progress]:
    """Print a line for each step, for a log."""
    yield lambda done, total, text: click.echo(f"[{done}/{total}] {safe(text)}", err=True)


@contextmanager
def _progress_bar() -> Iterator[Progress]:
    """Show a progress bar on the terminal."""
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
    """Print a configuration's warnings; raise Failure if it is invalid or a model cannot start."""
    source = ConfigSource(file, {}, {})
    try:
        config = source.load()
    except ConfigError as error:
        raise config_failure(error) from error
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
