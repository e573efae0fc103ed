"""Runs the gateway: checks what was asked for, and serves until a signal."""

import asyncio
import signal
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pool_service import tracing_setup
from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.process_settings import raise_descriptor_limit
from pool_service.cli.connection import connected, valid_address
from pool_service.cli.exit_codes import ExitCode, Failure
from pool_service.cli.gateway_command import GatewayOptions
from pool_service.cli.options import Target
from pool_service.logging_setup import configure_logging
from pool_service_client import AsyncPoolClient, RetryPolicy

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

try:
    from pool_service.gateway.callers import Sites
    from pool_service.gateway.gateway import run
    from pool_service.gateway.pools import Service
    from pool_service.gateway.settings import Mode, Settings
except ImportError as error:
    raise Failure(
        f"cannot run the gateway: the package {error.name!r} is missing. Install the extra: pip "
        "install 'pool-service[gateway]'.",
        ExitCode.USAGE,
    ) from error


def serve(target: Target, listen: str, options: GatewayOptions) -> None:
    """Serve until SIGTERM or SIGINT. Raises UsageError or Failure."""
    host, port = _host_and_port(listen)
    settings = Settings(
        host=host,
        port=port,
        mode=Mode(options["mode"]),
        wait_s=options["wait"],
        sites=Sites(
            frozenset(name.lower() for name in options["hosts"]),
            frozenset(origin.rstrip("/") for origin in options["origins"]),
            options["require_token"],
        ),
        tls=_tls(options["tls_cert"], options["tls_key"]),
        with_aliases=options["list_aliases"],
    )
    if settings.tls is None and not ip_address(host).is_loopback:
        raise click.UsageError(
            f"--listen {listen}: other machines would reach it without encryption. Give --tls-cert "
            "and --tls-key, or listen on 127.0.0.1 behind a proxy that speaks TLS."
        )
    configure_logging(options["log_format"], "info")
    # A request takes two descriptors, and macOS gives a program 256 of them.
    raise_descriptor_limit()
    ends = options["until_stdin_ends"]
    try:
        with _traced() as provider:
            asyncio.run(_serve(settings, target, provider, until_stdin_ends=ends))
    except OSError as error:
        message = f"cannot listen on {listen}: {reason(error)}"
        raise Failure(message, ExitCode.FAILURE) from error


@contextmanager
def _traced() -> "Iterator[TracerProvider | None]":
    """Return a context with what makes the spans, if there are to be any; send the last then."""
    provider = tracing_setup.configured_provider("", "pool-service-gateway")
    try:
        yield provider
    finally:
        if provider is not None:
            tracing_setup.close(provider)()


async def _serve(
    settings: Settings,
    target: Target,
    provider: "TracerProvider | None",
    *,
    until_stdin_ends: bool,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if until_stdin_ends:
        loop.add_reader(sys.stdin.fileno(), partial(_end, loop, stop))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def connect(token: str) -> AsyncPoolClient:
        once = RetryPolicy(attempts=1)
        if not token:
            return connected(AsyncPoolClient, target, once)
        return AsyncPoolClient.connect(
            target.address,
            token=token,
            ca=target.ca,
            cert=target.cert,
            key=target.key,
            retry=once,
        )

    service = Service(lambda: valid_address(target), connect)
    await run(settings, service, stop, lambda url: click.echo(f"listening on {url}"), provider)


def _end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """End the gateway, as its standard input has ended: nobody writes to that."""
    loop.remove_reader(sys.stdin.fileno())
    stop.set()


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, digits = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]").replace("localhost", "127.0.0.1")
    try:
        ip_address(host)
        port = int(digits) if digits.isascii() and digits.isdigit() else -1
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:  # noqa: PLR2004 - the largest port
        raise click.UsageError(f"--listen {listen}: write an address and a port: 127.0.0.1:8080")
    return host, port


def _tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise click.UsageError(
            f"--tls-cert and --tls-key cannot be used: {reason(error)}"
        ) from error
    return context
