"""The command that holds a model: until Ctrl-C, or for as long as another command runs."""

import asyncio
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self, Unpack

import click

from pool_service.cli import ENVIRONMENT
from pool_service.cli.appearance import tell
from pool_service.cli.connection import check_reachable, valid
from pool_service.cli.format import json_object, safe
from pool_service.cli.options import AskedToHold
from pool_service.cli.server_lines import ready, status
from pool_service_client import AsyncHold, AsyncPoolClient, PoolError, Server, ServerState

if TYPE_CHECKING:
    from pool_service.cli.progress import Line

ENDPOINT_VARIABLE = "POOL_ENDPOINT"
MODEL_VARIABLE = "POOL_MODEL"


def hold(
    address: str | None,
    model: str,
    command: Sequence[str],
    *,
    as_json: bool,
    **asked: Unpack[AskedToHold],
) -> int:
    """Keep a model ready and print its endpoints, or run a command meanwhile; its exit code."""
    if command and shutil.which(command[0]) is None:
        raise click.UsageError(f"{command[0]!r} is not a program that you can run")
    check_reachable(address)
    return asyncio.run(_hold(address, model, command, as_json=as_json, **asked))


async def _hold(
    address: str | None,
    model: str,
    command: Sequence[str],
    *,
    as_json: bool,
    **asked: Unpack[AskedToHold],
) -> int:
    pool = AsyncPoolClient.connect(valid(address))
    async with pool, pool.hold(model, **asked) as held:
        if not command:
            return await _print(held, model, as_json=as_json)
        return await _run(command, held, await _ready(held, model))


async def _print(held: AsyncHold, model: str, *, as_json: bool) -> int:
    """Print each endpoint, or each state, until the hold ends."""
    endpoint = ""
    with told(model) as line:
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
        tell(ready(server, "ready"), err=True)
    click.echo(safe(server.endpoint))


async def _ready(held: AsyncHold, model: str) -> Server:
    """The server once it is READY; tells meanwhile how it is."""
    with told(model) as line:
        async for server in held:
            if server.state is ServerState.READY:
                break
            line.show(server)
    return await held.ready()


class _Lines:
    """A line on stderr for each thing to wait for; how far it is makes no line of its own."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is to be undone."""

    def show(self, server: Server) -> None:
        news = (server.state, server.queue_position, server.detail, server.generation)
        if news != self._last:
            click.echo(status(server), err=True)
        self._last = news

    def hide(self) -> None:
        self._last = ()


def told(model: str) -> "Line | _Lines":
    """Return what tells on stderr, within its `with`, how a model's server is."""
    if not sys.stderr.isatty():
        return _Lines()
    from pool_service.cli.progress import Line

    return Line(model)


async def _run(command: Sequence[str], held: AsyncHold, server: Server) -> int:
    """The exit code of the command; as a shell has it, if a signal ended it."""
    environment = {
        **ENVIRONMENT,
        ENDPOINT_VARIABLE: server.endpoint,
        MODEL_VARIABLE: server.served_model_name,
    }
    with _signals() as terminated:
        process = await asyncio.create_subprocess_exec(*command, env=environment)
        beside = (
            asyncio.create_task(_tell_changes(held, server.endpoint)),
            asyncio.create_task(_pass_on(terminated, process)),
        )
        code = await process.wait()
        for task in beside:
            task.cancel()
    return code if code >= 0 else 128 - code


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Set by SIGTERM. Ctrl-C does nothing: it reached the command as well, which decides."""
    loop = asyncio.get_running_loop()
    terminated = asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    loop.add_signal_handler(signal.SIGTERM, terminated.set)
    try:
        yield terminated
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        loop.remove_signal_handler(signal.SIGTERM)


async def _pass_on(terminated: asyncio.Event, process: asyncio.subprocess.Process) -> None:
    while await terminated.wait():
        terminated.clear()
        with suppress(ProcessLookupError):
            process.terminate()


async def _tell_changes(held: AsyncHold, endpoint: str) -> None:
    """Say on stderr what a command that runs cannot know: its endpoint is another, or gone."""
    try:
        async for server in held:
            if server.state is ServerState.READY and server.endpoint != endpoint:
                endpoint = server.endpoint
                click.echo(safe(f"{server.model}: is at {endpoint} now"), err=True)
    except PoolError as error:
        click.echo(f"pool-service: the hold has ended: {safe(str(error))}", err=True)
