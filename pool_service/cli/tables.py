"""The pool as a table."""

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pool_service.cli.text import safe, span
from pool_service.cli.words import summary, why
from pool_service_client import Server, ServerState, Totals

# Nothing is cut off or folded where the output is not a terminal.
_UNLIMITED = 100_000

_STYLES = {ServerState.READY: "green", ServerState.FAILED: "red"}
_HEADINGS = ("MODEL", "STATE", "GEN", "PID", "ENDPOINT", "AGE", "EXPIRES")


class _Output(Console):
    def on_broken_pipe(self) -> None:
        """Leave it to `outcome.Group`: rich would end the program with 1."""
        raise  # noqa: PLE0704  # called where it is handled


def print_servers(servers: Sequence[Server], totals: Totals) -> None:
    """Print a table of the servers, why any of them is as it is, and the counts."""
    console = _Output(
        file=sys.stdout, width=None if sys.stdout.isatty() else _UNLIMITED, highlight=False
    )
    if servers:
        console.print(_table(servers, datetime.now(UTC)))
    for server in servers:
        if reason := why(server):
            console.print(Text(f"  {safe(server.model)}: {safe(reason)}"), soft_wrap=True)
    console.print(Text(summary(totals)), soft_wrap=True)


def _table(servers: Sequence[Server], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in _HEADINGS:
        folds = heading == "MODEL"
        table.add_column(heading, overflow="fold", no_wrap=not folds)
    for server in servers:
        table.add_row(*(_cells(server, now)))
    return table


def _cells(server: Server, now: datetime) -> Iterator[Text]:
    yield Text(safe(server.model))
    yield Text(server.state.name, style=_STYLES.get(server.state, "yellow"))
    yield Text(str(server.generation))
    yield Text(str(server.pid or "-"))
    yield Text(safe(server.endpoint) or "-")
    yield Text(span((now - server.create_time).total_seconds()) if server.create_time else "-")
    yield Text(_expiry(server, now))


def _expiry(server: Server, now: datetime) -> str:
    if server.expire_time is not None:
        return f"in {span((server.expire_time - now).total_seconds())}"
    return "never" if server.state is ServerState.READY else "-"
