"""The commands that run, start and stop the service itself."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from pool_service.cli.exit_codes import config_failure
from pool_service.cli.lean_imports import without_unused_packages
from pool_service.cli.options import Duration, config_option

if TYPE_CHECKING:
    from pool_service.config import Config, ConfigSource

P = ParamSpec("P")
R = TypeVar("R")

_DIRECTORY = click.Path(file_okay=False, path_type=Path)


def _service_options(command: Callable[P, R]) -> Callable[P, R]:
    """Give a command the options of a service, however it is started."""
    for option in reversed(
        (
            config_option,
            click.option(
                "--listen",
                multiple=True,
                metavar="ADDR",
                help="Listen on host:port or unix:PATH; may be repeated.",
            ),
            click.option(
                "--state-dir",
                type=_DIRECTORY,
                metavar="DIR",
                help="Keep the state of the service, and its servers' logs, in DIR.",
            ),
            click.option(
                "--keep-servers",
                is_flag=True,
                default=None,
                help="Leave the servers running for the next service when this one is stopped.",
            ),
            click.option(
                "--with-gateway",
                is_flag=True,
                default=None,
                help="Run the gateway, too: one OpenAI-compatible address, "
                "http://127.0.0.1:8080/v1.",
            ),
            click.option(
                "--log-format",
                type=click.Choice(["text", "json"]),
                help="Write log lines in this format.",
            ),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error"]),
                help="Write log lines of this level and above.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command()
@_service_options
@click.option(
    "--replace",
    is_flag=True,
    default=None,
    help="Replace the service that uses the state directory, and take over its servers.",
)
@click.pass_context
def serve(ctx: click.Context, /, config_file: Path | None, **options: object) -> None:
    """Run the service until SIGTERM or Ctrl-C.

    The first signal drains and stops the servers; a second one stops them without waiting.
    """
    from pool_service.init_process import split_off_init

    # Before the imports, so that process 1 stays small.
    split_off_init()
    with without_unused_packages():
        from pool_service import app

    source, settings = _loaded(config_file, options)
    ctx.exit(app.run(source, settings))


@click.command(context_settings={"allow_extra_args": True})
@_service_options
@click.option(
    "--timeout",
    type=Duration(positive=True),
    default="30s",
    show_default=True,
    metavar="DURATION",
    help="Give up after this time; a service that has begun to start goes on.",
)
@click.pass_context
def start(
    ctx: click.Context, /, config_file: Path | None, timeout: float, **options: object
) -> None:
    """Start the service in the background, unless it runs, and print its address.

    Returns when the service serves. However many programs do this at the same moment, there is one
    service. It goes on when you log out or the caller ends, until `pool-service stop`. Its log is
    service.log in its state directory.

    The options are for a service that is started: one that runs goes on as it is.
    """
    from pool_service.cli.background import BackgroundService

    _refuse_model(ctx, "ensure")
    _, settings = _loaded(config_file, options)
    service = BackgroundService(settings.service.state_dir, timeout)
    click.echo(service.start(_arguments(config_file, options)))


@click.command(context_settings={"allow_extra_args": True})
@config_option
@click.option(
    "--state-dir", type=_DIRECTORY, metavar="DIR", help="Stop the service whose state is in DIR."
)
@click.option(
    "--timeout",
    type=Duration(positive=True),
    metavar="DURATION",
    help="Stop waiting after this time.",
)
@click.option("--now", is_flag=True, help="Stop the servers at once: requests in flight are lost.")
@click.pass_context
def stop(
    ctx: click.Context,
    /,
    config_file: Path | None,
    timeout: float | None,
    *,
    now: bool,
    **options: object,
) -> None:
    """Stop the service, and return when it has ended.

    Its servers finish their requests first, for at most drain_timeout; with keep_servers they go
    on. It is no error if no service runs. A service that the system keeps running (systemd,
    launchd) is stopped there.
    """
    from pool_service.cli.background import BackgroundService

    _refuse_model(ctx, "evict")
    _, settings = _loaded(config_file, options)
    state_dir = settings.service.state_dir
    pid = BackgroundService(state_dir, timeout).stop(now=now)
    click.echo(
        f"no service uses {state_dir}" if pid is None else f"stopped the service (pid {pid})"
    )


def _refuse_model(ctx: click.Context, command: str) -> None:
    """Raise UsageError for an argument: other programs start and stop models by these commands."""
    if ctx.args:
        raise click.UsageError(
            f"`{ctx.info_name}` is for the service itself; for a model it is "
            f"`pool-service {command} {ctx.args[0]}`"
        )


def _loaded(
    config_file: Path | None, options: Mapping[str, object]
) -> tuple["ConfigSource", "Config"]:
    """Return the source of the configuration, and what it says. Raises Failure."""
    from pool_service import config

    overrides = {name: value for name, value in options.items() if value not in {None, ()}}
    source = config.ConfigSource(config_file, overrides, os.environ)
    try:
        return source, source.load()
    except config.ConfigError as error:
        raise config_failure(error) from error


def _arguments(config_file: Path | None, options: Mapping[str, object]) -> list[str]:
    """Return the arguments of a `serve` with the same options."""
    given = {"config": config_file, **options}
    return [word for name, value in given.items() for word in _words(name, value)]


def _words(name: str, value: object) -> Sequence[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is None:
        return ()
    if value is True:
        return (flag,)
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (flag, str(one))]
