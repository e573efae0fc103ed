"""The commands that ask a running service, by the Python client."""

import asyncio
import sys
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime

import click

from pool_service.cli.text import json_line, json_object, safe
from pool_service.cli.words import change
from pool_service_client import (
    AsyncPoolClient,
    EnsureResult,
    Event,
    EvictedServer,
    PoolClient,
    RetryPolicy,
    ServerChanged,
    ServerRemoved,
    ServerState,
    Synced,
)
from pool_service_client.connect import target

# Seconds; for questions that a service answers at once.
_PATIENCE = 10.0


def _valid(address: str | None) -> str:
    try:
        return target(address)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _retries(timeout: float | None) -> RetryPolicy:
    """A person is told of a failure at once, unless they said how long it may take."""
    return RetryPolicy(attempts=1) if timeout is None else RetryPolicy()


def ensure(
    address: str | None,
    model: str,
    *,
    runtime_model: str | None,
    keep_alive: float | None,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Make a model ready and print its endpoint."""
    began = time.monotonic()
    result = asyncio.run(_ensure(address, model, runtime_model, keep_alive, timeout))
    if as_json:
        click.echo(json_object(result))
        return
    if sys.stderr.isatty():
        click.echo(_ready(result, time.monotonic() - began), err=True)
    click.echo(safe(result.server.endpoint))


async def _ensure(
    address: str | None,
    model: str,
    runtime_model: str | None,
    keep_alive: float | None,
    limit: float | None,
) -> EnsureResult:
    client = AsyncPoolClient.connect(_valid(address), retry=_retries(limit))
    async with client as pool, _shown(pool, model):
        return await pool.ensure(
            model, runtime_model=runtime_model, keep_alive=keep_alive, timeout=limit
        )


def _shown(pool: AsyncPoolClient, model: str) -> AbstractAsyncContextManager[None]:
    if not sys.stderr.isatty():
        return nullcontext()
    from pool_service.cli.progress import shown

    return shown(pool, model)


def _ready(result: EnsureResult, seconds: float) -> str:
    server = result.server
    how = "started" if result.started else "ready"
    return safe(
        f"{server.model}: {how} in {seconds:.1f} s "
        f"(generation {server.generation}, pid {server.pid}); "
        f"requests must name the model {server.served_model_name}"
    )


def evict(
    address: str | None,
    model: str | None,
    *,
    idle: bool,
    force: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Stop a model's server, or the idle ones, or (with neither) all, and print which."""
    with PoolClient.connect(_valid(address), retry=_retries(timeout)) as pool:
        if model is not None:
            evicted = pool.evict(model, force=force, timeout=timeout)
        elif idle:
            evicted = pool.evict_idle(timeout=timeout)
        else:
            evicted = pool.evict_all(force=force, timeout=timeout)
    for one in evicted:
        click.echo(json_object(one) if as_json else _stopped(one))
    if not (evicted or as_json):
        click.echo("nothing to evict")


def _stopped(one: EvictedServer) -> str:
    if one.server.state is ServerState.FAILED:
        return safe(f"forgot {one.server.model}, which had failed")
    lost = "; it had to be killed, and work in flight was lost" if one.killed else ""
    return safe(f"evicted {one.server.model} (generation {one.server.generation}){lost}")


def list_servers(address: str | None, *, timeout: float | None, as_json: bool) -> None:
    """Print all servers of the pool."""
    with PoolClient.connect(_valid(address), retry=_retries(timeout)) as pool:
        pages = list(pool.pages(timeout=timeout or _PATIENCE))
    for notice in pages[-1].notices:
        click.echo(f"notice: {safe(notice)}", err=True)
    servers = [server for page in pages for server in page.servers]
    if as_json:
        for server in servers:
            click.echo(json_object(server))
        return
    from pool_service.cli.tables import print_servers

    print_servers(servers, pages[-1].totals)


def watch(address: str | None, *, after: int | None, as_json: bool) -> None:
    """Print the pool's changes until interrupted."""
    with PoolClient.connect(_valid(address), retry=_retries(None)) as pool:
        next(pool.pages(page_size=1, timeout=_PATIENCE))
    with PoolClient.connect(_valid(address)) as pool, pool.watch(after) as events:
        for event in events:
            click.echo(_event_json(event) if as_json else _event_words(event))


def _event_json(event: Event) -> str:
    match event:
        case ServerChanged():
            return json_line(event="changed", revision=event.revision, server=event.server)
        case ServerRemoved():
            return json_line(event="removed", revision=event.revision, server=event.server)
        case Synced():
            return json_line(event="synced", revision=event.revision, server=None)


def _event_words(event: Event) -> str:
    at = datetime.now().astimezone().strftime("%H:%M:%S")
    match event:
        case ServerChanged():
            return f"{at}  {change(event.server, event.server.state.name)}"
        case ServerRemoved():
            return f"{at}  {change(event.server, 'REMOVED')}"
        case Synced():
            return f"{at}  that is all at revision {event.revision}; changes follow"
