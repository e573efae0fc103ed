"""The commands about what may be served: the models that are listed, and their files."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import click

from pool_service.cli.connection import PATIENCE, check_reachable, client, valid
from pool_service.cli.text import json_object, safe
from pool_service.core.sizes import size
from pool_service_client import PoolClient, Progress

Show = Callable[[Progress], None]


def list_models(address: str | None, *, timeout: float | None, as_json: bool) -> None:
    """Print the models that the configuration lists."""
    with client(address, timeout) as pool:
        models = list(pool.models(timeout=timeout or PATIENCE))
    if as_json:
        for model in models:
            click.echo(json_object(model))
        return
    from pool_service.cli.tables import print_models

    print_models(models)


def pull(address: str | None, model: str, runtime_model: str | None) -> None:
    """Download what is missing of a model, and show how far that is."""
    check_reachable(address)
    there = 0
    with PoolClient.connect(valid(address)) as pool, _shown() as show:
        for progress in pool.pull(model, runtime_model=runtime_model):
            there = progress.total
            show(progress)
    click.echo(safe(f"{model}: all its files are there") + (f" ({size(there)})" if there else ""))


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
