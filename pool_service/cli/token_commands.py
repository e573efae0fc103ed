"""The commands about tokens: `token create`, `token list` and `token revoke`."""

import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.text import Text

from pool_service.access import tokens
from pool_service.access.clients import Client
from pool_service.access.principal import (
    ADMIN_OF_ALL,
    CallerLimits,
    ModelPatterns,
    Principal,
    Scope,
)
from pool_service.access.token_records import NAME, TokenFileInvalid, TokenRecord, limits_of
from pool_service.adapters.access.token_file import FILE_NAME, changing, read
from pool_service.adapters.system.os_errors import explain
from pool_service.cli.exit_codes import ExitCode, Failure
from pool_service.cli.format import json_line, safe
from pool_service.cli.state_directory import configured_clients, state_directory
from pool_service.cli.tables import print_table

_HEADINGS = ("CLIENT", "SCOPE", "LOGS", "MODELS", "CREATED", "EXPIRES")
_LEAST_IMPORTANT = ("CREATED", "EXPIRES", "LOGS", "MODELS")


def create(
    config_file: Path | None,
    state_dir: str | None,
    name: str,
    *,
    scope: str,
    logs: bool,
    models: tuple[str, ...],
    limits: CallerLimits,
    expires_in: float | None,
) -> None:
    """Make a client with a token, and print the token."""
    if not NAME.fullmatch(name):
        raise click.UsageError(
            f"{name!r} cannot be a client's name. One has letters, digits and . _ -, at most 64 of "
            "them, and begins with a letter or digit; local is the service's own user."
        )
    if not all(models):
        raise click.UsageError("a pattern of --model is empty, so it would match no model.")
    if scope == "admin" and "*" not in models:
        raise click.UsageError(f"{ADMIN_OF_ALL}.")
    token, now = tokens.new_token(), time.time()
    principal = Principal(
        name, Scope[scope.upper()], logs=logs, models=ModelPatterns(models), limits=limits
    )
    expires_at = math.inf if expires_in is None else now + expires_in
    client = Client(principal, tokens.digest(token), expires_at=expires_at)
    if name in configured_clients(config_file):
        raise Failure(
            f"the configuration has a [clients.{name}], which would count instead. Choose another "
            "name, or remove that section.",
            ExitCode.REFUSED,
        )
    with _file(config_file, state_dir) as path, changing(path) as records:
        if any(record.client.principal.name == name for record in records):
            raise Failure(
                f"there is a token for {name!r} already. Revoke that first, or choose another "
                "name.",
                ExitCode.REFUSED,
            )
        records.append(TokenRecord(client, now))
    click.echo(token)
    click.echo(
        f"added {safe(name)} to {path}. The token is shown only once: put it into a file that only "
        "the client can read, and name the file in POOL_SERVICE_TOKEN_FILE.",
        err=True,
    )


def print_list(config_file: Path | None, state_dir: str | None, *, as_json: bool) -> None:
    """Print the clients that have a token."""
    with _file(config_file, state_dir) as path:
        records = read(path)
    if as_json:
        for record in records:
            click.echo(_json_of(record))
        return
    if not records:
        click.echo(f"no client has a token in {path}", err=True)
        return
    rows = [tuple(_cells(record)) for record in records]
    print_table(_HEADINGS, rows, _LEAST_IMPORTANT)


def revoke(config_file: Path | None, state_dir: str | None, name: str) -> None:
    """Revoke the token of a client."""
    with _file(config_file, state_dir) as path, changing(path) as records:
        left = [one for one in records if one.client.principal.name != name]
        if len(left) == len(records):
            raise Failure(
                f"there is no token for {name!r} in {path}. `pool-service token list` shows all.",
                ExitCode.REFUSED,
            )
        records[:] = left
    click.echo(f"revoked the token of {safe(name)}", err=True)


@contextmanager
def _file(config_file: Path | None, state_dir: str | None) -> Iterator[Path]:
    """Give the path of the file of tokens; its faults become Failures."""
    directory = state_directory(config_file, state_dir)
    if state_dir is not None and not directory.is_dir():
        raise click.UsageError(
            f"there is no directory {directory}. Name the service's state directory by --state-dir."
        )
    path = directory / FILE_NAME
    try:
        _check_owner(directory)
        yield path
    except TokenFileInvalid as error:
        raise Failure(
            f"the file of tokens, {path}, cannot be used: {error}. Correct it, or remove it "
            "and create all tokens anew.",
            ExitCode.FAILURE,
        ) from error
    except OSError as error:
        raise Failure(
            f"the file of tokens, {path}, cannot be used: {explain(error, directory)}.",
            ExitCode.FAILURE,
        ) from error


def _check_owner(directory: Path) -> None:
    """Raise Failure if the service, which runs as the directory's owner, could not read a file."""
    try:
        owner = directory.stat().st_uid
    except FileNotFoundError:
        return
    if owner != os.geteuid():
        raise Failure(
            f"{directory} belongs to the user with the id {owner}, whose service could not read "
            f"your files. Run this command as that user: sudo -u '#{owner}' pool-service token …",
            ExitCode.FAILURE,
        )


def _cells(record: TokenRecord) -> Iterator[Text]:
    client, principal = record.client, record.client.principal
    yield Text(safe(principal.name))
    yield Text(principal.scope.name.lower())
    yield Text("yes" if principal.logs else "-")
    yield Text(safe(", ".join(principal.models.patterns)))
    yield Text(f"{_local(record.created_at):%Y-%m-%d}")
    if client.expires_at == math.inf:
        yield Text("never")
    else:
        is_over = client.expires_at <= time.time()
        yield Text("expired" if is_over else f"{_local(client.expires_at):%Y-%m-%d %H:%M}")


def _json_of(record: TokenRecord) -> str:
    client, principal = record.client, record.client.principal
    is_forever = client.expires_at == math.inf
    return json_line(
        name=principal.name,
        scope=principal.scope.name.lower(),
        logs=principal.logs,
        models=principal.models.patterns,
        **limits_of(principal),
        create_time=_utc(record.created_at),
        expire_time=None if is_forever else _utc(client.expires_at),
    )


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def _local(at: float) -> datetime:
    return _utc(at).astimezone()
