"""The pool and its catalogue as tables."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pool_service.cli.columns import GAP, cut, fitting
from pool_service.cli.text import safe, span
from pool_service.cli.words import doing, memory, needs, summary, why
from pool_service.core.sizes import size
from pool_service_client import Model, Server, ServerState, Totals

# Nothing is cut off or folded where the output is not a terminal.
_UNLIMITED = 100_000

_STYLES = {ServerState.READY: "green", ServerState.FAILED: "red"}
_SERVERS = ("MODEL", "STATE", "GEN", "PID", "ENDPOINT", "MEMORY", "HOLDS", "AGE", "EXPIRES")
_SERVERS_LEAST_IMPORTANT = ("GEN", "PID", "HOLDS", "AGE", "ENDPOINT", "MEMORY", "EXPIRES")
_MODELS = ("MODEL", "ALIASES", "NEEDS", "ON DISK")
_MODELS_LEAST_IMPORTANT = ("ALIASES", "NEEDS", "ON DISK")


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `outcome.Group`: rich would end the program with 1."""
        raise  # noqa: PLE0704  # called where it is handled


def print_servers(servers: Sequence[Server], totals: Totals) -> None:
    """Print a table of the servers, why any of them is as it is, and the totals."""
    now = datetime.now(UTC)
    console = _output()
    rows = [tuple(_cells(server, now)) for server in servers]
    _print_table(console, _SERVERS, rows, _SERVERS_LEAST_IMPORTANT)
    _print_remarks(console, ((server.model, why(server)) for server in servers))
    for line in (summary(totals), memory(totals)):
        if line:
            console.print(Text(line), soft_wrap=True)


def print_models(models: Sequence[Model]) -> None:
    """Print a table of the models, and what is wrong with any of them."""
    console = _output()
    rows = [tuple(_model_cells(model)) for model in models]
    _print_table(console, _MODELS, rows, _MODELS_LEAST_IMPORTANT)
    _print_remarks(console, ((model.model, model.problem) for model in models))
    count = f"{len(models)} model{'' if len(models) == 1 else 's'}"
    console.print(Text(count), soft_wrap=True)


def _output() -> _Output:
    width = None if sys.stdout.isatty() else _UNLIMITED
    return _Output(file=sys.stdout, width=width, highlight=False)


def _print_table(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[tuple[Text, ...]],
    least_important: Sequence[str],
) -> None:
    if not rows:
        return
    cells = [headings, *([cell.plain for cell in row] for row in rows)]
    leaving_out = [headings.index(heading) for heading in least_important]
    columns, name_width = fitting(cells, console.width, leaving_out)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    for column in columns:
        table.add_column(headings[column], no_wrap=True, overflow="crop")
    for name, *others in rows:
        row = (Text(cut(name.plain, name_width), style=name.style), *others)
        table.add_row(*(row[column] for column in columns))
    console.print(table, no_wrap=True, crop=True)


def _print_remarks(console: Console, remarks: Iterable[tuple[str, str]]) -> None:
    for model, remark in remarks:
        if remark:
            console.print(Text(f"  {safe(model)}: {safe(remark)}"), soft_wrap=True)


def _cells(server: Server, now: datetime) -> Iterator[Text]:
    yield Text(safe(server.model))
    yield Text(doing(server), style=_STYLES.get(server.state, "yellow"))
    yield Text(str(server.generation))
    yield Text(str(server.pid or "-"))
    yield Text(safe(server.endpoint) or "-")
    yield Text(_memory(server))
    yield Text(str(server.holds or "-"))
    yield Text(span((now - server.create_time).total_seconds()) if server.create_time else "-")
    yield Text(_expiry(server, now))


def _memory(server: Server) -> str:
    """Return what a server takes, and what it is expected to need."""
    amounts = (server.footprint_bytes, server.expected_bytes)
    return " / ".join(size(amount) if amount else "-" for amount in amounts if any(amounts)) or "-"


def _expiry(server: Server, now: datetime) -> str:
    if server.holds:
        return "held"
    if server.expire_time is not None:
        return f"in {span((server.expire_time - now).total_seconds())}"
    return "never" if server.state is ServerState.READY else "-"


def _model_cells(model: Model) -> Iterator[Text]:
    yield Text(safe(model.model))
    yield Text(safe(", ".join(model.aliases)) or "-")
    yield Text(needs(model.expected_bytes, model.expected_by))
    yield Text({True: "yes", False: "no", None: "-"}[model.on_disk])
