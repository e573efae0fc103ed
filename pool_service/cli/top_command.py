"""The command `top`, with its arguments and help."""

import click

from pool_service.cli.options import Target, calls_service


@click.command()
@calls_service
def top(target: Target) -> None:
    """Show the pool live in the terminal, with keys to act on it.

    Shows the memory against the budget, and each server with its state, memory, last use, holds,
    and its place among those that would be stopped for another model. Changes are shown at once.

    Keys: up and down choose a model, E ensures it, e evicts it (and asks if it is in use), p pins
    or unpins it, l follows its log, d describes it, ? shows the help, q ends the view.

    Looking neither starts a model nor keeps one. When the service goes away, the last picture
    stays, and the view goes on with the next service. Without a terminal, use `list` or `watch`.
    """
    from pool_service.cli.top import run

    run.top(target)
