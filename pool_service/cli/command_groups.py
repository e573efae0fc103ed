"""The groups of commands that need no service: `runtime` and `config`."""

from pathlib import Path

import click

from pool_service.cli.options import FILE, config_option, json_option


@click.group()
def runtime() -> None:
    """Install or show the program that serves the models."""


@runtime.command()
@config_option
def install(config_file: Path | None) -> None:
    """Install vllm-mlx in an environment of its own, and print the program's path."""
    from pool_service.cli import local_commands

    local_commands.install(config_file)


@runtime.command()
@click.argument("name", default="")
@config_option
@json_option
def show(name: str, config_file: Path | None, *, as_json: bool) -> None:
    """Show which program serves models, and which promises are kept with it.

    NAME: of a section [runtimes.NAME]; without it the runtime of models that name none.
    """
    from pool_service.cli import local_commands

    local_commands.show(name, config_file, as_json=as_json)


@click.group("config")
def configuration() -> None:
    """Check a configuration file."""


@configuration.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Check that FILE is valid and that its models can start on this machine.

    Prints every problem with its key and what to do. A problem that may pass by itself, such as
    a drive that is not mounted, is a warning. Exits with 2 if there is any other problem.
    """
    from pool_service.cli import local_commands

    local_commands.check(file)
