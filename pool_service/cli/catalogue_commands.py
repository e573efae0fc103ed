"""The commands about models and their files: `models`, `pull`, `forget`, `pin` and `unpin`."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict

import click

from pool_service.adapters.models.files import ModelFiles, locate
from pool_service.adapters.models.hub_cache import cached_models, partial_bytes
from pool_service.cli.connection import QUERY_TIMEOUT_S, check_reachable, client, connected
from pool_service.cli.exit_codes import ExitCode, Failure
from pool_service.cli.format import json_line, json_object, safe
from pool_service.cli.options import Target
from pool_service.core.units import size
from pool_service_client import (
    Expectation,
    Model,
    Pinned,
    PoolClient,
    PoolError,
    PoolUnavailable,
    Progress,
)
from pool_service_client.v1 import pool_service_pb2 as pb

Show = Callable[[Progress], None]

_PINNED = {
    (True, True): "is now pinned",
    (True, False): "was already pinned",
    (False, True): "is no longer pinned",
    (False, False): "was not pinned",
}
"""The result that `pin` and `unpin` print, by whether the model is pinned and that has changed."""


def list_models(target: Target, *, timeout: float | None, as_json: bool) -> None:
    """Print the service's models; without a service, those in the caller's own cache.

    Raises Failure if the service cannot be reached, after printing the caller's models.
    """
    try:
        with client(target, timeout) as pool:
            models = pool.models(found=True, timeout=timeout or QUERY_TIMEOUT_S)
    except PoolUnavailable as error:
        _print_models(_own_models(), as_json=as_json)
        message = f"{error}. These are the models in your own Hugging Face cache."
        raise Failure(message, ExitCode.UNREACHABLE) from error
    _print_models(models, as_json=as_json)


def _own_models() -> list[Model]:
    """Return the models in the caller's Hugging Face cache."""
    return [_own_model(name, locate(name, os.environ)) for name in cached_models(os.environ)]


def _own_model(name: str, files: ModelFiles | None) -> Model:
    is_complete = files is not None and files.complete
    weights = files.weight_bytes if files is not None else 0
    partial = 0 if is_complete else partial_bytes(name, os.environ)
    return Model(
        model=name,
        aliases=(),
        runtime_model=name,
        runtime="",
        groups=(),
        pinned=False,
        preload=False,
        expected_bytes=0,
        expected_by=Expectation.UNSPECIFIED,
        on_disk=is_complete,
        problem="",
        disk_bytes=weights + partial,
        state=None,
        listed=False,
        message=pb.Model(),
    )


def _print_models(models: Sequence[Model], *, as_json: bool) -> None:
    if as_json:
        for model in models:
            click.echo(json_object(model))
        return
    from pool_service.cli.tables import print_models

    print_models(models)


def forget(target: Target, model: str, *, timeout: float | None) -> None:
    """Forget the runtime model that a caller named for a model, and print that name."""
    with client(target, timeout) as pool:
        forgotten = pool.forget(model, timeout=timeout or QUERY_TIMEOUT_S)
    if forgotten:
        click.echo(safe(f"{model}: forgot the runtime model {forgotten}"))
    else:
        click.echo(safe(f"{model}: no runtime model was remembered"))


def pin(
    target: Target, model: str, *, pinned: bool | None, timeout: float | None, as_json: bool
) -> None:
    """Pin a model, take its pin back, or let the configuration decide, and print what it is now."""
    with client(target, timeout) as pool:
        result = pool.pin(model, pinned=pinned, timeout=timeout or QUERY_TIMEOUT_S)
    if as_json:
        click.echo(json_line(model=model, **asdict(result)))
        return
    click.echo(pinned_line(model, result, pinned=pinned))


def pinned_line(model: str, result: Pinned, *, pinned: bool | None) -> str:
    """Return a line that says whether a model is pinned now; `pinned`: what was asked for."""
    contradicts = pinned is not None and result.pinned is not result.configured
    configured = "pins it" if result.configured else "does not pin it"
    note = f"; the configuration {configured}" if contradicts else ""
    return safe(f"{model}: {_PINNED[result.pinned, result.changed]}{note}")


def pull(target: Target, model: str, runtime_model: str | None) -> None:
    """Download a model's missing files and show the progress."""
    check_reachable(target)
    total = 0
    with _progress_display() as show:
        for progress in _download(target, model, runtime_model):
            total = progress.total
            show(progress)
    click.echo(safe(f"{model}: all files are on disk") + (f" ({size(total)})" if total else ""))


def _download(target: Target, model: str, runtime_model: str | None) -> Iterator[Progress]:
    """Yield a download's progress.

    One that breaks off is resumed, with the client's own retries; one that cannot begin fails at
    once.
    """
    has_begun = False
    try:
        with client(target) as pool:
            for progress in pool.pull(model, runtime_model=runtime_model):
                has_begun = has_begun or progress.total > 0
                yield progress
    except PoolError:
        if not has_begun:
            raise
    else:
        return
    with connected(PoolClient, target) as pool:
        yield from pool.pull(model, runtime_model=runtime_model)


def _progress_display() -> AbstractContextManager[Show]:
    return _progress_bar() if sys.stderr.isatty() else _progress_lines()


@contextmanager
def _progress_lines() -> Iterator[Show]:
    """Print a line for each tenth of a download, for a log."""
    last: int | None = None

    def show(progress: Progress) -> None:
        nonlocal last
        tenth = progress.done * 10 // progress.total if progress.total else -1
        if tenth != last:
            of = f" of {size(progress.total)}" if progress.total else ""
            click.echo(f"{size(progress.done)}{of}", err=True)
        last = tenth

    yield show


@contextmanager
def _progress_bar() -> Iterator[Show]:
    """Show a progress bar on the terminal."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    from pool_service.cli.terminal import display

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with display(*columns) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(
            task, completed=progress.done, total=progress.total or None
        )
