"""The command `hold`: holds a model until Ctrl-C, or as long as another command runs."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self, Unpack

import click

from pool_service.cli import CALLER_ENVIRONMENT
from pool_service.cli.appearance import print_line
from pool_service.cli.connection import check_reachable, connected
from pool_service.cli.endpoint_variables import variables
from pool_service.cli.format import json_object, safe
from pool_service.cli.options import HoldOptions, Target
from pool_service.cli.server_lines import ready_line, status_line
from pool_service_client import AsyncHold, AsyncPoolClient, PoolError, Server, ServerState

if TYPE_CHECKING:
    from pool_service.cli.progress import StatusLine


def hold(
    target: Target,
    model: str,
    command: Sequence[str],
    *,
    as_json: bool,
    **options: Unpack[HoldOptions],
) -> int:
    """Keep a model ready, print its endpoints or run a command meanwhile; return the exit code."""
    if command and shutil.which(command[0]) is None:
        raise click.UsageError(f"{command[0]!r} cannot be run: there is no such program")
    check_reachable(target)
    return asyncio.run(_hold(target, model, command, as_json=as_json, **options))


async def _hold(
    target: Target,
    model: str,
    command: Sequence[str],
    *,
    as_json: bool,
    **options: Unpack[HoldOptions],
) -> int:
    pool = connected(AsyncPoolClient, target)
    async with pool, pool.hold(model, **options) as held:
        if not command:
            return await _print_endpoints(held, model, as_json=as_json)
        return await _run_command(command, held, await _wait_until_ready(held, model))


async def _print_endpoints(held: AsyncHold, model: str, *, as_json: bool) -> int:
    """Print each endpoint (with `as_json`: each state) until the hold ends; return 0."""
    endpoint = ""
    with status_display(model) as line:
        async for server in held:
            if as_json:
                click.echo(json_object(server))
            if server.state is not ServerState.READY:
                line.show(server)
                continue
            line.hide()
            if not as_json and server.endpoint != endpoint:
                endpoint = server.endpoint
                _print_endpoint(server)
    return 0


def _print_endpoint(server: Server) -> None:
    if sys.stderr.isatty():
        print_line(ready_line(server, "ready"), err=True)
    click.echo(safe(server.endpoint))


async def _wait_until_ready(held: AsyncHold, model: str) -> Server:
    """Return the server once it is READY, and show its state meanwhile."""
    with status_display(model) as line:
        async for server in held:
            if server.state is ServerState.READY:
                break
            line.show(server)
    return await held.ready()


class _StatusLines:
    """Prints a line on stderr for each new state of a server, but none for mere progress."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: printed lines stay."""

    def show(self, server: Server) -> None:
        news = (server.state, server.queue_position, server.detail, server.generation)
        if news != self._last:
            click.echo(status_line(server), err=True)
        self._last = news

    def hide(self) -> None:
        self._last = ()


def status_display(model: str) -> "StatusLine | _StatusLines":
    """Return a context manager that shows the states of the model's server on stderr.

    A line that changes on a terminal; otherwise a line for each state.
    """
    if not sys.stderr.isatty():
        return _StatusLines()
    from pool_service.cli.progress import StatusLine

    return StatusLine(model)


async def _run_command(command: Sequence[str], held: AsyncHold, server: Server) -> int:
    """Run the command and return its exit code; 128 + N if signal N ended it, as in a shell."""
    environment = {**CALLER_ENVIRONMENT, **variables(server)}
    with _sigterm_event() as terminated:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        tasks = (
            asyncio.create_task(_report_changes(held, server.endpoint)),
            asyncio.create_task(_forward_sigterm(terminated, process)),
        )
        code = await process.wait()
        for task in tasks:
            task.cancel()
    return code if code >= 0 else 128 - code


@contextmanager
def _sigterm_event() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM sets. Ignores Ctrl-C, which reaches the command as well."""
    loop = asyncio.get_running_loop()
    terminated = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    try:
        yield terminated
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)


async def _forward_sigterm(terminated: asyncio.Event, process: asyncio.subprocess.Process) -> None:
    while await terminated.wait():
        terminated.clear()
        with suppress(ProcessLookupError):
            process.terminate()


async def _report_changes(held: AsyncHold, endpoint: str) -> None:
    """Print on stderr when the endpoint that the command was given changes or is gone."""
    try:
        async for server in held:
            if server.state is ServerState.READY and server.endpoint != endpoint:
                endpoint = server.endpoint
                key = ", with another key (ensure --env)" if server.api_key else ""
                click.echo(safe(f"{server.model}: is at {endpoint} now{key}"), err=True)
    except PoolError as error:
        click.echo(f"pool-service: the hold has ended: {safe(str(error))}", err=True)
