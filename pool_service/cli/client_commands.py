"""The commands about servers: `ensure`, `evict`, `list`, `reload` and `watch`."""

import asyncio
import sys
import time
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import Unpack

import click

from pool_service.cli.appearance import Mark, print_line, warn, with_symbol
from pool_service.cli.connection import (
    QUERY_TIMEOUT_S,
    check_reachable,
    client,
    connected,
    retry_policy,
)
from pool_service.cli.endpoint_variables import exports
from pool_service.cli.format import json_line, json_object, safe
from pool_service.cli.options import EnsureOptions, Target
from pool_service.cli.server_lines import (
    STATE_COLUMN_WIDTH,
    STATE_MARKS,
    change_line,
    generation_text,
    label,
    ready_line,
    state_text,
)
from pool_service_client import (
    AsyncPoolClient,
    EnsureResult,
    Event,
    EvictedServer,
    PoolClient,
    Reloaded,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerState,
    Synced,
)

NO_MODEL_CHANGED = "no model's settings have changed; the pool's own settings are in effect"
"""Printed after a reload that affects no server. Settings of the pool may have changed."""


def ensure(
    target: Target,
    model: str,
    *,
    timeout: float | None,
    as_json: bool,
    as_variables: bool,
    **options: Unpack[EnsureOptions],
) -> None:
    """Make a model ready and print its endpoint; with `as_variables` as commands of a shell."""
    began = time.monotonic()
    result = asyncio.run(_ensure(target, model, timeout, **options))
    if as_json:
        click.echo(json_object(result))
        return
    if sys.stderr.isatty():
        how = "started" if result.started else "ready"
        print_line(
            ready_line(result.server, f"{how} in {time.monotonic() - began:.1f} s"), err=True
        )
    server = result.server
    click.echo("\n".join(exports(server)) if as_variables else safe(server.endpoint))


async def _ensure(
    target: Target, model: str, limit: float | None, **options: Unpack[EnsureOptions]
) -> EnsureResult:
    client = connected(AsyncPoolClient, target, retry_policy(limit))
    async with client as pool, _progress(pool, model):
        return await pool.ensure(model, timeout=limit, **options)


def _progress(pool: AsyncPoolClient, model: str) -> AbstractAsyncContextManager[None]:
    if not sys.stderr.isatty():
        return nullcontext()
    from pool_service.cli.progress import show_progress

    return show_progress(pool, model)


def evict(
    target: Target,
    model: str | None,
    *,
    idle: bool,
    force: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """Evict a model's server, or all idle ones, or (with neither) all; print the evicted ones."""
    with client(target, timeout) as pool:
        if model is not None:
            evicted = pool.evict(model, force=force, timeout=timeout)
        elif idle:
            evicted = pool.evict_idle(timeout=timeout)
        else:
            evicted = pool.evict_all(force=force, timeout=timeout)
    for one in evicted:
        click.echo(json_object(one) if as_json else evicted_line(one))
    if not (evicted or as_json):
        click.echo("nothing to evict")


def evicted_line(one: EvictedServer) -> str:
    """Return a line that says which server was stopped, and what was lost with it."""
    if one.server.state is ServerState.FAILED:
        return safe(f"forgot {one.server.model}, which had failed")
    lost = "; it had to be killed, and its requests in flight were lost" if one.killed else ""
    return safe(f"evicted {label(one.server)} (generation {generation_text(one.server)}){lost}")


def list_servers(target: Target, *, timeout: float | None, as_json: bool) -> None:
    """Print all servers of the pool."""
    with client(target, timeout) as pool:
        pages = list(pool.pages(timeout=timeout or QUERY_TIMEOUT_S))
    for notice in pages[-1].notices:
        click.echo(f"notice: {safe(notice)}", err=True)
    servers = [server for page in pages for server in page.servers]
    if as_json:
        for server in servers:
            click.echo(json_object(server))
        return
    from pool_service.cli.tables import print_servers

    print_servers(servers, pages[-1].totals)


def reload(target: Target, *, timeout: float | None, as_json: bool) -> None:
    """Make the service reload its configuration, and print the changes and problems."""
    with client(target, timeout) as pool:
        result = pool.reload(timeout=timeout)
    if as_json:
        click.echo(json_object(result))
        return
    for line in _reload_lines(result) or [NO_MODEL_CHANGED]:
        click.echo(safe(line))
    for problem in result.problems:
        warn(problem)


def _reload_lines(result: Reloaded) -> list[str]:
    return [
        *(
            f"{model}: restarts with its new settings when it is next unused"
            for model in result.replaced
        ),
        *(f"{model}: keeps running, with new limits" for model in result.updated),
        *(f"{model}: stops when it is next unused" for model in result.removed),
        *(f"{key}: applies when the service is restarted" for key in result.restart_needed),
    ]


def watch(target: Target, *, after: int | None, as_json: bool) -> None:
    """Print the pool's changes until interrupted."""
    check_reachable(target)
    with connected(PoolClient, target) as pool, pool.watch(after) as events:
        if as_json:
            for event in events:
                click.echo(_event_json(event))
        else:
            _print_changes(events)


def _print_changes(events: Iterable[Event]) -> None:
    """Print a line for each event, unless it is the same as the last line of its server."""
    last: dict[tuple[str, int], str] = {}
    for event in events:
        line = _event_line(event)
        # For example a revision that only moved the expiry time, which the line does not show.
        if not isinstance(event, Synced) and last.get(_key(event.server)) == line:
            continue
        if isinstance(event, ServerRemoved):
            last.pop(_key(event.server), None)
        elif isinstance(event, ServerChanged):
            last[_key(event.server)] = line
        at = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}  "
        if isinstance(event, ServerChanged):
            mark = STATE_MARKS.get(event.server.state, Mark.NOTE)
            state = with_symbol(line[:STATE_COLUMN_WIDTH], mark, sys.stdout)
            print_line(at, (state, mark), line[STATE_COLUMN_WIDTH:])
        else:
            print_line(at, with_symbol(line, Mark.NOTE, sys.stdout))


def _key(server: Server) -> tuple[str, int]:
    return server.model, server.generation


def _event_json(event: Event) -> str:
    match event:
        case ServerChanged():
            return json_line(event="changed", revision=event.revision, server=event.server)
        case ServerRemoved():
            return json_line(event="removed", revision=event.revision, server=event.server)
        case Synced():
            return json_line(event="synced", revision=event.revision, server=None)


def _event_line(event: Event) -> str:
    match event:
        case ServerChanged():
            return change_line(event.server, state_text(event.server))
        case ServerRemoved():
            return change_line(event.server, "REMOVED")
        case Synced():
            return f"these are all servers at revision {event.revision}; changes follow"
