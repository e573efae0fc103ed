"""The command `events`, with its arguments and help."""

from datetime import datetime
from pathlib import Path

import click

from pool_service.cli.options import Utf8Text, config_option
from pool_service.cli.points_in_time import PointInTime
from pool_service.cli.shell_completion import ModelName


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on with new events until Ctrl-C.")
@click.option(
    "--since",
    type=PointInTime(),
    metavar="TIME",
    help="Show events from this time on: how long ago (90s, 1h), a time of day (18:00, "
    "'yesterday 18:00') or a date (2026-11-26, 2026-11-26T18:00).",
)
@click.option("--until", type=PointInTime(), metavar="TIME", help="Show events up to this time.")
@click.option(
    "--model",
    type=ModelName(),
    metavar="M",
    help="Show only what is about the model M. With --state-dir, an alias of it also needs "
    "--config: the configuration says which model it means.",
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    metavar="N",
    help="Show the last N events. Default: 100, or with --since all since then.",
)
@config_option
@click.option(
    "--state-dir",
    type=Utf8Text(),
    metavar="DIR",
    help="Read the events in DIR, the state directory of the service.",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON, one object per line, as the events are on disk.",
)
def events(
    *,
    follow: bool,
    since: datetime | None,
    until: datetime | None,
    model: str | None,
    lines: int | None,
    config_file: Path | None,
    state_dir: str | None,
    as_json: bool,
) -> None:
    """Show what has happened: changes of servers, and calls that changed something or failed.

    Reads the state directory, so that it works while no service runs. The last 16 MB are kept,
    also over restarts of the service.

    For example: pool-service events --since 'yesterday 18:00' --model qwen3-4b
    """
    from pool_service.cli import event_lines

    if follow and until is not None:
        raise click.UsageError("--follow cannot be used with --until")
    directory, names = event_lines.place_and_names(config_file, state_dir, model)
    selection = event_lines.Selection(since, until, names)
    if lines is None and since is None:
        lines = event_lines.DEFAULT_LINES
    event_lines.print_events(directory, selection, lines, follow=follow, as_json=as_json)
