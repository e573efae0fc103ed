"""Tables of `list`, `models` and `token list`."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from pool_service.cli.appearance import Mark, has_symbols, print_line
from pool_service.cli.columns import GAP, fit_columns, shorten
from pool_service.cli.format import human_duration, safe
from pool_service.cli.server_lines import (
    STATE_MARKS,
    expiry_text,
    generation_text,
    label,
    memory_line,
    memory_text,
    needs_text,
    on_disk_text,
    remark,
    state_text,
    totals_line,
)
from pool_service.cli.terminal import TerminalConsole
from pool_service_client import Model, Server, Totals

_UNLIMITED = 100_000
"""The width in cells of output that is not a terminal, so that nothing is cut off."""

_SERVERS: tuple[str, ...] = (
    "MODEL",
    "STATE",
    "GEN",
    "PID",
    "ENDPOINT",
    "MEMORY",
    "HOLDS",
    "AGE",
    "EXPIRES",
)
_SERVERS_LEAST_IMPORTANT: tuple[str, ...] = (
    "GEN",
    "PID",
    "HOLDS",
    "AGE",
    "ENDPOINT",
    "MEMORY",
    "EXPIRES",
)
_HOST, _HOST_PLACE = "HOST", 2
"""The heading of the column that only servers of a fleet have, and its place."""
_MODELS = ("MODEL", "STATE", "ON DISK", "NEEDS", "LISTED", "ALIASES")
_MODELS_LEAST_IMPORTANT = ("ALIASES", "LISTED", "NEEDS", "STATE", "ON DISK")


def print_servers(servers: Sequence[Server], totals: Totals) -> None:
    """Print a table of the servers, the reasons for their states, and the totals."""
    now = datetime.now(UTC)
    console = _output()
    headings, least_important = _SERVERS, _SERVERS_LEAST_IMPORTANT
    has_hosts = any(server.host for server in servers)
    if has_hosts:
        headings = (*_SERVERS[:_HOST_PLACE], _HOST, *_SERVERS[_HOST_PLACE:])
        least_important = (*_SERVERS_LEAST_IMPORTANT, _HOST)
    rows = [tuple(_cells(server, now, has_host=has_hosts)) for server in servers]
    if has_symbols(sys.stdout):
        # Symbols are shown only if they cost neither a column nor a letter of a name.
        with_symbols = [
            tuple(_cells(server, now, symbols=True, has_host=has_hosts)) for server in servers
        ]
        shown = [
            _fitting(console, headings, each, least_important) for each in (rows, with_symbols)
        ]
        rows = with_symbols if shown[0] == shown[1] else rows
    _print_table(console, headings, rows, least_important)
    _print_remarks((label(server), remark(server)) for server in servers)
    for line in (totals_line(totals), memory_line(totals)):
        if line:
            print_line(line)


def print_models(models: Sequence[Model]) -> None:
    """Print a table of the models, their problems, and their number."""
    rows = [tuple(_model_cells(model)) for model in models]
    print_table(_MODELS, rows, _MODELS_LEAST_IMPORTANT)
    # A model that was merely found may not be one for the runtime at all.
    _print_remarks((one.model, one.problem) for one in models if one.listed)
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    print_line(count)


def _output() -> TerminalConsole:
    return TerminalConsole(sys.stdout, width=None if sys.stdout.isatty() else _UNLIMITED)


def print_table(
    headings: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    least_important: Sequence[str],
) -> None:
    """Print a table; columns that do not fit are left out, the least important ones first."""
    _print_table(_output(), headings, rows, least_important)


def _print_table(
    console: TerminalConsole,
    headings: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    least_important: Sequence[str],
) -> None:
    if not rows:
        return
    columns, name_width = _fitting(console, headings, rows, least_important)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column in columns:
        table.add_column(headings[column], no_wrap=True, overflow="crop")
    for name, *others in rows:
        short = shorten(name.plain, name_width, has_symbols(sys.stdout))
        row = (Text(short, style=name.style), *others)
        table.add_row(*(row[column] for column in columns))
    console.print(table, no_wrap=True, crop=True)


def _fitting(
    console: TerminalConsole,
    headings: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    least_important: Sequence[str],
) -> tuple[tuple[int, ...], int]:
    cells = [headings, *([cell.plain for cell in row] for row in rows)]
    droppable = [headings.index(heading) for heading in least_important]
    return fit_columns(cells, console.width, droppable)


def _print_remarks(remarks: Iterable[tuple[str, str]]) -> None:
    for model, why in remarks:
        if why:
            print_line(f"  {model}: {why}")


def _cells(
    server: Server, now: datetime, *, symbols: bool = False, has_host: bool
) -> Iterator[Text]:
    yield Text(safe(label(server)))
    mark = STATE_MARKS.get(server.state, Mark.NOTE)
    yield Text(
        f"{mark.symbol} {state_text(server)}" if symbols else state_text(server), style=mark.colour
    )
    if has_host:
        yield Text(safe(server.host) or "-")
    yield Text(generation_text(server))
    yield Text(str(server.pid or "-"))
    yield Text(safe(server.endpoint) or "-")
    yield Text(memory_text(server))
    yield Text(str(server.holds or "-"))
    yield Text(
        human_duration((now - server.create_time).total_seconds()) if server.create_time else "-"
    )
    yield Text(expiry_text(server, now))


def _model_cells(model: Model) -> Iterator[Text]:
    yield Text(safe(model.model))
    state = model.state
    yield Text(state.name, style=STATE_MARKS.get(state, Mark.NOTE).colour) if state else Text("-")
    yield Text(on_disk_text(model.on_disk, model.disk_bytes))
    yield Text(needs_text(model.expected_bytes, model.expected_by))
    yield Text("yes" if model.listed else "-")
    yield Text(safe(", ".join(model.aliases)) or "-")
