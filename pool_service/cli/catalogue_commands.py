"""The commands about what may be served: the models that are listed, and their files."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import click

from pool_service.adapters.models.files import ModelFiles, locate
from pool_service.adapters.models.hub_cache import cached_models, part_bytes
from pool_service.cli.connection import PATIENCE_S, check_reachable, client, valid
from pool_service.cli.exit_codes import ExitCode, Failure
from pool_service.cli.format import json_object, safe
from pool_service.core.units import size
from pool_service_client import (
    Expectation,
    Model,
    PoolClient,
    PoolError,
    PoolUnavailable,
    Progress,
)
from pool_service_client.v1 import pool_service_pb2 as pb

Show = Callable[[Progress], None]


def list_models(address: str | None, *, timeout: float | None, as_json: bool) -> None:
    """Print the models that are listed or found; without a service those of the caller's disk."""
    try:
        with client(address, timeout) as pool:
            models = list(pool.models(found=True, timeout=timeout or PATIENCE_S))
    except PoolUnavailable as error:
        _print_models(_own_models(), as_json=as_json)
        words = f"{error}. Shown is what your own Hugging Face cache has."
        raise Failure(words, ExitCode.UNREACHABLE) from error
    _print_models(models, as_json=as_json)


def _own_models() -> list[Model]:
    """Return what the Hugging Face cache of the caller has."""
    return [_own(name, locate(name, os.environ)) for name in cached_models(os.environ)]


def _own(name: str, files: ModelFiles | None) -> Model:
    is_whole = files is not None and files.complete
    weights = files.weights if files is not None else 0
    parts = 0 if is_whole else part_bytes(name, os.environ)
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
        on_disk=is_whole,
        problem="",
        disk_bytes=weights + parts,
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


def forget(address: str | None, model: str, *, timeout: float | None) -> None:
    """Forget which runtime model was named for a model, and print that."""
    with client(address, timeout) as pool:
        forgotten = pool.forget(model, timeout=timeout or PATIENCE_S)
    if forgotten:
        click.echo(safe(f"{model}: no longer means {forgotten}"))
    else:
        click.echo(safe(f"{model}: nothing was remembered"))


def pull(address: str | None, model: str, runtime_model: str | None) -> None:
    """Download what is missing of a model, and show how far that is."""
    check_reachable(address)
    there = 0
    with _shown() as show:
        for progress in _pulled(address, model, runtime_model):
            there = progress.total
            show(progress)
    click.echo(safe(f"{model}: all its files are there") + (f" ({size(there)})" if there else ""))


def _pulled(address: str | None, model: str, runtime_model: str | None) -> Iterator[Progress]:
    """Yield how far a download is: one that has begun is resumed, one that cannot begin fails."""
    has_begun = False
    try:
        with client(address) as pool:
            for progress in pool.pull(model, runtime_model=runtime_model):
                has_begun = has_begun or progress.total > 0
                yield progress
    except PoolError:
        if not has_begun:
            raise
    else:
        return
    with PoolClient.connect(valid(address)) as pool:
        yield from pool.pull(model, runtime_model=runtime_model)


def _shown() -> AbstractContextManager[Show]:
    return _bar() if sys.stderr.isatty() else _lines()


@contextmanager
def _lines() -> Iterator[Show]:
    """A line for each tenth, for a log."""
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
def _bar() -> Iterator[Show]:
    """A bar, for a terminal."""
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    from pool_service.cli.terminal import display

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with display(*columns) as bar:
        task = bar.add_task("", total=None)
        yield lambda progress: bar.update(
            task, completed=progress.done, total=progress.total or None
        )
