"""The command `top`, with its arguments and help."""

import click

from pool_service.cli.options import address_option


@click.command()
@address_option
def top(address: str | None) -> None:
    r"""Show the pool live in the terminal, with keys to act on it.

    Shows the memory against the budget, and each server with its state, memory, last use, holds,
    and its place among those that would be stopped for another model. Changes are shown at once.

    \b
    up, down, j, k   choose a model        E  ensure: make it ready
    l  logs of its servers                 e  evict; asks if it is in use
    d  describe it                         p  pin, or unpin
    ?  help                                q  quit

    Looking neither starts a model nor keeps one. When the service goes away, the last picture
    stays, and the view goes on with the next service. Without a terminal, use `list` or `watch`.
    """
    from pool_service.cli.top import run

    run.top(address)
