"""The commands that hand out the endpoint of a model's server: `ensure` and `hold`."""

import os
from typing import Unpack

import click

from pool_service.cli.options import (
    EnsureOptions,
    HoldOptions,
    Target,
    Utf8Text,
    calls_service,
    download_option,
    json_option,
    keep_alive_option,
    runtime_model_option,
    timeout_option,
)
from pool_service.cli.shell_completion import ModelName


@click.command()
@click.argument("model", type=ModelName())
@runtime_model_option
@keep_alive_option
@download_option
@timeout_option
@json_option
@click.option(
    "--env",
    "as_variables",
    is_flag=True,
    help="Print commands for your shell that set POOL_ENDPOINT, POOL_MODEL and POOL_API_KEY.",
)
@calls_service
def ensure(
    target: Target,
    model: str,
    timeout: float | None,
    *,
    as_json: bool,
    as_variables: bool,
    **options: Unpack[EnsureOptions],
) -> None:
    """Make MODEL ready and print the base URL of its server.

    The server answers only requests that show its key, which --env and --json print, too:

    eval "$(pool-service ensure vllm-mlx/qwen3-4b --env)"

    curl -H "Authorization: Bearer $POOL_API_KEY" $POOL_ENDPOINT/v1/models
    """
    from pool_service.cli import client_commands

    if as_json and as_variables:
        raise click.UsageError("--env and --json cannot be used together")
    client_commands.ensure(
        target, model, timeout=timeout, as_json=as_json, as_variables=as_variables, **options
    )


@click.command()
@click.argument("model", type=ModelName())
@click.argument("command", nargs=-1, type=Utf8Text(), metavar="[-- COMMAND [ARG]...]")
@runtime_model_option
@keep_alive_option
@download_option
@click.option(
    "--holder",
    type=Utf8Text(),
    metavar="LABEL",
    default=lambda: f"pid {os.getpid()}",
    help="Label shown to those who want to evict MODEL. Default: the id of this process.",
)
@json_option
@calls_service
@click.pass_context
def hold(
    ctx: click.Context,
    target: Target,
    /,
    model: str,
    command: tuple[str, ...],
    *,
    as_json: bool,
    **options: Unpack[HoldOptions],
) -> None:
    """Keep MODEL ready until Ctrl-C, and print its base URL.

    If the server dies, another one is started and its base URL is printed.

    With a COMMAND, keep MODEL ready until the command ends, and exit with its code. The command's
    environment has POOL_ENDPOINT (the base URL), POOL_MODEL (the name for requests) and
    POOL_API_KEY (the key that requests show).
    """
    from pool_service.cli import hold_command

    if command and as_json:
        raise click.UsageError("--json cannot be used with a COMMAND, which prints its own output")
    ctx.exit(hold_command.hold(target, model, command, as_json=as_json, **options))
