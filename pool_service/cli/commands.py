"""What can be typed. Each command imports what it needs when it runs."""

import math
import os
from pathlib import Path

import click

from pool_service.cli.outcome import EXIT_CODES, Group, invalid
from pool_service.cli.text import safe

FILE = click.Path(dir_okay=False, path_type=Path)


class Name(click.ParamType[str]):
    """Text that can travel: arguments may hold any bytes."""

    name = "text"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        text = str(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{text!r} is not UTF-8", param, ctx)
        return text


class Seconds(click.ParamType[float]):
    """A finite number of seconds."""

    name = "seconds"

    def __init__(self, *, positive: bool) -> None:
        """positive: zero and less are refused."""
        self._positive = positive

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds: float = click.FLOAT(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not finite", param, ctx)
        if self._positive and seconds <= 0:
            self.fail(f"{value!r} is not more than 0", param, ctx)
        return seconds


address_option = click.option(
    "--address",
    metavar="ADDR",
    help="Where the service is; goes before the global --address.",
    callback=lambda ctx, _param, given: given or ctx.obj,
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
timeout_option = click.option(
    "--timeout",
    type=Seconds(positive=True),
    metavar="SECONDS",
    help="How long it may take; what may pass is tried again within it.",
)
config_option = click.option(
    "--config", "config_file", type=FILE, metavar="FILE", help="The configuration, in TOML."
)


@click.group(
    cls=Group,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="pool-service", message="%(prog)s %(version)s")
@click.option(
    "--address",
    metavar="ADDR",
    help="Where the service is: host:port or unix:PATH. "
    "Else POOL_SERVICE_ADDRESS, else 127.0.0.1:50051.",
)
@click.pass_context
def pool_service(ctx: click.Context, address: str | None) -> None:
    """Make models ready on this machine: one server per model, started on demand."""
    ctx.obj = address


@pool_service.command()
@config_option
@click.option(
    "--listen", multiple=True, metavar="ADDR", help="host:port or unix:PATH; may be repeated."
)
@click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where logs and working directories are kept.",
)
@click.option(
    "--keep-servers",
    is_flag=True,
    default=None,
    help="Leave the servers running when this service is stopped, for the next one.",
)
@click.option(
    "--replace",
    is_flag=True,
    default=None,
    help="Take over from the service that uses the state directory; it leaves its servers.",
)
@click.option("--log-format", type=click.Choice(["text", "json"]))
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.pass_context
def serve(ctx: click.Context, /, config_file: Path | None, **options: object) -> None:
    """Run the service until SIGTERM or Ctrl-C, which drain and stop its servers."""
    from pool_service import app, config

    overrides = {name: value for name, value in options.items() if value not in {None, ()}}
    try:
        settings = config.load(config_file, overrides, os.environ)
    except config.ConfigError as error:
        raise invalid(error) from error
    ctx.exit(app.run(settings))


@pool_service.command()
@click.argument("model", type=Name())
@click.option(
    "--runtime-model", type=Name(), metavar="R", help="What the runtime is to load for it."
)
@click.option(
    "--keep-alive",
    type=Seconds(positive=False),
    metavar="SECONDS",
    help="How long it stays when unused; 0: not at all; negative: for ever.",
)
@timeout_option
@json_option
@address_option
def ensure(
    model: str,
    address: str | None,
    runtime_model: str | None,
    keep_alive: float | None,
    timeout: float | None,
    *,
    as_json: bool,
) -> None:
    """Make MODEL ready and print the base URL of its server.

    For example: curl $(pool-service ensure vllm-mlx/qwen3-4b)/health
    """
    from pool_service.cli import calls

    calls.ensure(
        address,
        model,
        runtime_model=runtime_model,
        keep_alive=keep_alive,
        timeout=timeout,
        as_json=as_json,
    )


@pool_service.command()
@click.argument("model", type=Name(), required=False)
@click.option("--idle", is_flag=True, help="Every ready server that is not in use.")
@click.option("--all", "everything", is_flag=True, help="Every server.")
@click.option("--force", is_flag=True, help="Also where requests are in flight.")
@timeout_option
@json_option
@address_option
def evict(
    model: str | None,
    address: str | None,
    timeout: float | None,
    *,
    idle: bool,
    everything: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Drain and stop the server of MODEL, the idle ones, or all.

    Requests in flight finish first, up to the drain limit. Evicting what is not
    there is no error.
    """
    from pool_service.cli import calls

    if (model is not None) + idle + everything != 1:
        raise click.UsageError("say which: a MODEL, --idle or --all")
    if idle and force:
        raise click.UsageError("--force makes no sense with --idle: those are not in use")
    calls.evict(address, model, idle=idle, force=force, timeout=timeout, as_json=as_json)


@pool_service.command("list")
@timeout_option
@json_option
@address_option
def list_servers(address: str | None, timeout: float | None, *, as_json: bool) -> None:
    """Show all servers of the pool."""
    from pool_service.cli import calls

    calls.list_servers(address, timeout=timeout, as_json=as_json)


@pool_service.command()
@click.option(
    "--after",
    type=click.IntRange(min=0, max=2**64 - 1),
    metavar="REVISION",
    help="Only changes after this revision.",
)
@json_option
@address_option
def watch(address: str | None, after: int | None, *, as_json: bool) -> None:
    """Show the present servers, then every change, until Ctrl-C."""
    from pool_service.cli import calls

    calls.watch(address, after=after, as_json=as_json)


@pool_service.group()
def runtime() -> None:
    """The program that serves the models."""


@runtime.command()
@config_option
def install(config_file: Path | None) -> None:
    """Install vllm-mlx into an environment of its own and print the program's path."""
    from pool_service.cli import runtimes

    runtimes.install(config_file)


@runtime.command()
@config_option
@json_option
def show(config_file: Path | None, *, as_json: bool) -> None:
    """Show which program would be started, its version, and how it was found."""
    from pool_service.cli import runtimes

    runtimes.show(config_file, as_json=as_json)


@pool_service.group("config")
def configuration() -> None:
    """The configuration file."""


@configuration.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Say whether FILE is a valid configuration, and if not, why."""
    from pool_service import config

    try:
        config.load(file, {}, {})
    except config.ConfigError as error:
        raise invalid(error) from error
    click.echo(safe(f"{file} is valid"))
