"""All commands with their arguments and help. Each imports its implementation when it runs."""

from pathlib import Path
from typing import Unpack

import click

from pool_service.cli.command_groups import configuration, runtime
from pool_service.cli.description_command import describe
from pool_service.cli.endpoint_commands import ensure, hold
from pool_service.cli.events_command import events
from pool_service.cli.exit_codes import EXIT_CODES, Group
from pool_service.cli.fleet_command import fleet
from pool_service.cli.gateway_command import gateway
from pool_service.cli.insight import logs
from pool_service.cli.options import (
    EnsureOptions,
    Target,
    Utf8Text,
    calls_service,
    config_option,
    download_option,
    json_option,
    keep_alive_option,
    runtime_model_option,
    target_options,
    timeout_option,
)
from pool_service.cli.service_commands import serve, start, stop
from pool_service.cli.shell_completion import ModelName
from pool_service.cli.token_group import token
from pool_service.cli.top_command import top


@click.group(
    cls=Group,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pool-service", message="%(prog)s %(version)s")
@target_options
def pool_service() -> None:
    """Make models ready on this machine: one server per model, started on demand."""


@pool_service.command()
@click.argument("model", type=ModelName())
@click.option(
    "--system",
    type=Utf8Text(),
    default="",
    metavar="TEXT",
    help="System prompt: text that the model gets before the conversation.",
)
@runtime_model_option
@keep_alive_option
@download_option
@calls_service
def run(target: Target, model: str, system: str, **options: Unpack[EnsureOptions]) -> None:
    """Chat with MODEL in the terminal, or answer a piped question.

    MODEL is made ready and held meanwhile. Ctrl-C stops an answer; Ctrl-D or /bye ends the
    chat. With a pipe, only the answer is printed:

    echo "Name three lighthouses." | pool-service run vllm-mlx/qwen3-4b
    """
    from pool_service.cli import chat

    chat.run(target, model, system, **options)


@pool_service.command()
@click.argument("model", type=ModelName(running=True), required=False)
@click.option(
    "--idle", is_flag=True, help="Evict every READY server that is neither in use nor pinned."
)
@click.option("--all", "everything", is_flag=True, help="Evict every server.")
@click.option("--force", is_flag=True, help="Evict servers that are held or have requests, too.")
@timeout_option
@json_option
@calls_service
def evict(
    target: Target,
    model: str | None,
    timeout: float | None,
    *,
    idle: bool,
    everything: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Drain and stop MODEL's server, the idle servers, or all.

    Requests in flight finish first, for at most drain_timeout. It is no error if MODEL
    has no server.
    """
    from pool_service.cli import client_commands

    if (model is not None) + idle + everything != 1:
        raise click.UsageError("give one of: a MODEL, --idle, --all")
    if idle and force:
        raise click.UsageError("--force cannot be used with --idle, which skips servers in use")
    client_commands.evict(target, model, idle=idle, force=force, timeout=timeout, as_json=as_json)


@pool_service.command("list")
@timeout_option
@json_option
@calls_service
def list_servers(target: Target, timeout: float | None, *, as_json: bool) -> None:
    """Show all servers, and the memory that is used and left."""
    from pool_service.cli import client_commands

    client_commands.list_servers(target, timeout=timeout, as_json=as_json)


@pool_service.command()
@click.option(
    "--after",
    type=click.IntRange(min=0, max=2**64 - 1),
    metavar="REVISION",
    help="Show only the changes after this revision.",
)
@json_option
@calls_service
def watch(target: Target, after: int | None, *, as_json: bool) -> None:
    """Show all servers, then every change, until Ctrl-C."""
    from pool_service.cli import client_commands

    client_commands.watch(target, after=after, as_json=as_json)


@pool_service.command()
@timeout_option
@json_option
@calls_service
def models(target: Target, timeout: float | None, *, as_json: bool) -> None:
    """Show the known models, and the memory that each needs.

    A model is known if it is configured, on disk or running. If no service can be reached, the
    models in your own Hugging Face cache are shown.
    """
    from pool_service.cli import catalogue_commands

    catalogue_commands.list_models(target, timeout=timeout, as_json=as_json)


@pool_service.command()
@click.argument("model", type=ModelName())
@runtime_model_option
@calls_service
def pull(target: Target, model: str, runtime_model: str | None) -> None:
    """Download the missing files of MODEL, without starting a server.

    Ctrl-C stops the download; the next one continues where it stopped.
    """
    from pool_service.cli import catalogue_commands

    catalogue_commands.pull(target, model, runtime_model)


@pool_service.command()
@click.argument("model", type=Utf8Text())
@timeout_option
@calls_service
def forget(target: Target, model: str, timeout: float | None) -> None:
    """Forget the runtime model that a caller named for MODEL, and print that name.

    The service remembers the --runtime-model of a call for later calls that name none. A running
    server is not affected.
    """
    from pool_service.cli import catalogue_commands

    catalogue_commands.forget(target, model, timeout=timeout)


@pool_service.command()
@click.argument("model", type=ModelName())
@click.option(
    "--as-configured",
    is_flag=True,
    help="Undo pin and unpin: the configuration decides whether MODEL is pinned.",
)
@timeout_option
@json_option
@calls_service
def pin(
    target: Target, model: str, timeout: float | None, *, as_configured: bool, as_json: bool
) -> None:
    """Keep the server of MODEL: neither idleness nor other models stop it.

    Starts nothing: a model without a server is pinned from its next start on. The pin is kept over
    evictions and restarts of the service. `evict MODEL` stops a pinned server, too.
    """
    from pool_service.cli import catalogue_commands

    pinned = None if as_configured else True
    catalogue_commands.pin(target, model, pinned=pinned, timeout=timeout, as_json=as_json)


@pool_service.command()
@click.argument("model", type=ModelName())
@timeout_option
@json_option
@calls_service
def unpin(target: Target, model: str, timeout: float | None, *, as_json: bool) -> None:
    """Take the pin of MODEL back, also if the configuration pins it.

    Its server stops when it is unused for its keep alive, or when another model needs its memory.
    """
    from pool_service.cli import catalogue_commands

    catalogue_commands.pin(target, model, pinned=False, timeout=timeout, as_json=as_json)


@pool_service.command()
@timeout_option
@json_option
@calls_service
def reload(target: Target, timeout: float | None, *, as_json: bool) -> None:
    """Make the service reload its configuration, and show the changes.

    Servers whose settings are the same keep running; others are replaced when they are next
    unused. A problem that keeps a listed model from starting is shown as a warning.
    """
    from pool_service.cli import client_commands

    client_commands.reload(target, timeout=timeout, as_json=as_json)


pool_service.add_command(serve)
pool_service.add_command(start)
pool_service.add_command(stop)
pool_service.add_command(ensure)
pool_service.add_command(hold)
pool_service.add_command(describe)
pool_service.add_command(events)
pool_service.add_command(gateway)
pool_service.add_command(logs)
pool_service.add_command(top)


@pool_service.command()
@config_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, config_file: Path | None, *, as_json: bool) -> None:
    """Check whether the service can work on this machine.

    Prints a line for each check: OK, INFO, WARNING or BROKEN, and what to do about it. Changes
    nothing, and does not disturb a running service. Exits with 1 if a check is BROKEN.
    """
    from pool_service.cli import doctor as examination

    ctx.exit(examination.doctor(config_file, as_json=as_json))


for group in (runtime, configuration, token, fleet):
    pool_service.add_command(group)
