"""The command `logs`: what the servers of a model have written, and write."""

import io
import sys
from collections.abc import Iterable, Iterator

import click

from pool_service.cli.appearance import Mark, print_line, with_symbol
from pool_service.cli.connection import check_reachable, connected
from pool_service.cli.format import json_line, safe
from pool_service.cli.options import LogOptions, Target
from pool_service.core.units import size
from pool_service_client import Exit, LogEnd, LogLines, PoolClient


def logs(target: Target, model: str, *, as_json: bool, options: LogOptions) -> None:
    """Print the lines of a model's servers on stdout, and notes on the processes on stderr."""
    check_reachable(target)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Lines may have any character, also where the output has not.
        sys.stdout.reconfigure(errors="backslashreplace")
    with (
        connected(PoolClient, target) as pool,
        pool.logs(model, **options) as parts,
    ):
        if as_json:
            for part in parts:
                click.echo(_json(part))
        else:
            _print_all(parts)


def _print_all(parts: Iterable[LogLines | LogEnd]) -> None:
    """Print lines, and notes on the processes that wrote them."""
    before: int | None = None
    for part in parts:
        for note in notes(part, before):
            _note(note)
        before = part.generation
        # In one piece, as a write for each line is slow.
        if isinstance(part, LogLines) and part.lines:
            click.echo("\n".join(map(safe, part.lines)))


def notes(part: LogLines | LogEnd, before: int | None) -> Iterator[str]:
    """Yield what is to be said before the lines of a part.

    before: the generation of the part before; None: there is none.
    """
    if before not in {None, part.generation}:
        yield f"generation {part.generation}"
    if isinstance(part, LogEnd):
        yield f"generation {part.generation} has ended{_reason(part.exit)}"
    elif part.missed_bytes:
        yield f"{size(part.missed_bytes)} before this are no longer kept"


def _note(text: str) -> None:
    sys.stdout.flush()
    print_line(with_symbol(text, Mark.NOTE, sys.stderr), err=True)


def _reason(end: Exit | None) -> str:
    return f": {end.message}" if end is not None and end.message else ""


def _json(part: LogLines | LogEnd) -> str:
    if isinstance(part, LogEnd):
        return json_line(
            event="ended", generation=part.generation, exit=part.exit, cursor=part.cursor
        )
    return json_line(
        event="lines",
        generation=part.generation,
        lines=part.lines,
        missed_bytes=part.missed_bytes,
        cursor=part.cursor,
    )
