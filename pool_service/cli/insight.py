"""The commands that show why things are so, with their arguments and help."""

from typing import Unpack

import click

from pool_service.cli.options import LogOptions, Target, calls_service, json_option
from pool_service.cli.shell_completion import ModelName


@click.command()
@click.argument("model", type=ModelName())
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on with new lines, once they are complete, and new processes, until Ctrl-C.",
)
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0, max=10_000),
    metavar="N",
    help="Show the last N lines, at most 10000. Default: 100.",
)
@click.option("--previous", is_flag=True, help="Show the process before the newest one.")
@click.option(
    "--generation",
    type=click.IntRange(min=1, max=2**64 - 1),
    metavar="N",
    help="Show the process of this generation.",
)
@click.option(
    "--all",
    "oldest",
    is_flag=True,
    help="Show every line that is kept, of all processes of MODEL.",
)
@click.option(
    "--cursor", default="", metavar="C", help="Go on after the line of --json with cursor C."
)
@json_option
@calls_service
def logs(target: Target, model: str, *, as_json: bool, **options: Unpack[LogOptions]) -> None:
    """Show what the servers of MODEL have written, the newest process unless you say otherwise.

    Lines go to standard output, and notes on the processes to standard error. Showing a log neither
    starts a server nor keeps one. A log may contain prompts.
    """
    from pool_service.cli import log_command

    places = {
        "--generation": options["generation"] is not None,
        "--previous": options["previous"],
        "--all": options["oldest"],
        "--cursor": bool(options["cursor"]),
    }
    given = [name for name, is_given in places.items() if is_given]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} cannot be used with {given[1]}")
    if options["lines"] is not None and (options["oldest"] or options["cursor"]):
        raise click.UsageError(f"--lines cannot be used with {given[0]}, which shows every line")
    log_command.logs(target, model, as_json=as_json, options=options)
