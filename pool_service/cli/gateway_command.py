"""The command `gateway`, with its arguments and help."""

from pathlib import Path
from typing import Literal, TypedDict, Unpack

import click

from pool_service.cli.options import FILE, Duration, Target, calls_service


class GatewayOptions(TypedDict):
    """Holds what the command line says of the gateway. wait: in seconds."""

    mode: str
    wait: float
    hosts: tuple[str, ...]
    origins: tuple[str, ...]
    list_aliases: bool
    require_token: bool
    log_format: Literal["text", "json"]
    until_stdin_ends: bool
    tls_cert: Path | None
    tls_key: Path | None


@click.command()
@click.option(
    "--listen",
    envvar="POOL_SERVICE_GATEWAY_LISTEN",
    default="127.0.0.1:8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Listen on this address. Other machines reach it with --tls-cert and --tls-key only.",
)
@click.option(
    "--mode",
    type=click.Choice(["proxy", "redirect"]),
    default="proxy",
    show_default=True,
    help="proxy: answers pass through. redirect: callers are sent to the model's server, where "
    "they can go there.",
)
@click.option(
    "--wait",
    type=Duration(positive=True),
    default="300s",
    show_default=True,
    metavar="DURATION",
    help="How long a request waits for its model.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name by which callers reach the gateway; may be repeated.",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    metavar="ORIGIN",
    help="Let the web pages of ORIGIN call, such as http://localhost:3000; may be repeated.",
)
@click.option(
    "--list-aliases", is_flag=True, help="Show the aliases of models as entries of their own."
)
@click.option(
    "--require-token",
    is_flag=True,
    help="Ask callers of your own user for a token, too, as behind a proxy.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Write log lines in this format.",
)
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
@click.option("--tls-cert", type=FILE, metavar="FILE", help="The gateway's certificate, for TLS.")
@click.option("--tls-key", type=FILE, metavar="FILE", help="The key of --tls-cert.")
@calls_service
def gateway(target: Target, listen: str, **options: Unpack[GatewayOptions]) -> None:
    """Serve all models under one OpenAI-compatible address, until SIGTERM or Ctrl-C.

    For programs that know a base URL only, such as Open WebUI or an SDK: give them
    http://127.0.0.1:8080/v1. A request starts its model if that is needed, and waits for it.
    Callers with a client of the service need no gateway.

    Needs the extra `gateway` of the package. A caller of your own user needs no key; others send a
    token of the service as the API key.
    """
    from pool_service.cli import gateway_service

    if (options["tls_cert"] is None) != (options["tls_key"] is None):
        raise click.UsageError("give both --tls-cert and --tls-key, or neither")
    gateway_service.serve(target, listen, options)
