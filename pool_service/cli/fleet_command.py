"""The group `fleet`: the front of a fleet, with its arguments and help."""

from pathlib import Path

import click

from pool_service.cli.lean_imports import without_unused_packages
from pool_service.cli.options import FILE


@click.group()
def fleet() -> None:
    """Serve the models of several hosts at one address."""


@fleet.command()
@click.option(
    "--config",
    "config_file",
    type=FILE,
    metavar="FILE",
    help="Read the configuration of the front, in TOML, from FILE.",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDR",
    help="Listen on host:port or unix:PATH; may be repeated. Without it, on 127.0.0.1:50050.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="Write log lines in this format.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    help="Write log lines of this level and above.",
)
@click.pass_context
def serve(ctx: click.Context, /, config_file: Path | None, **options: object) -> None:
    """Run the front of a fleet until SIGTERM or Ctrl-C.

    A front has the calls of a service, and passes each to the member that has the model, or that
    can start it best. Members are services on other hosts, or on this one; FILE names them.
    Their servers go on when the front ends. SIGHUP makes it read its configuration again.

    With members from DNS it needs the extra `fleet` of the package, and `kubernetes` in a cluster.
    """
    with without_unused_packages():
        from pool_service.cli import fleet_service

    ctx.exit(fleet_service.serve(config_file, options))


@fleet.group("config")
def configuration() -> None:
    """Check a configuration file of a front."""


@configuration.command()
@click.argument("file", type=FILE)
def check(file: Path) -> None:
    """Check that FILE is a valid configuration of a front.

    Prints every problem with its key and what to do, and exits with 2 if there is any. Calls
    nobody, and does not read the certificates that FILE names.
    """
    from pool_service.cli import fleet_service

    fleet_service.check(file)
