"""The command `describe`, with its arguments and help."""

import click

from pool_service.cli.options import Target, calls_service, json_option, timeout_option
from pool_service.cli.shell_completion import ModelName


@click.command()
@click.argument("model", type=ModelName())
@timeout_option
@json_option
@calls_service
def describe(target: Target, model: str, timeout: float | None, *, as_json: bool) -> None:
    """Show all that is known about MODEL, and why its server is as it is.

    Its settings and where each comes from, its servers and memory, the times of its last starts
    and how these ended, who holds it or waits for it, what would be stopped next for another
    model, and the last decisions. A look: MODEL is neither started nor kept by it.
    """
    from pool_service.cli import description_text

    description_text.describe(target, model, timeout=timeout, as_json=as_json)
