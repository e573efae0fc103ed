"""A display on the terminal that leaves it as it was, however the program ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import Progress, ProgressColumn

from pool_service.cli.console import Output


@contextmanager
def display(*columns: ProgressColumn, transient: bool = False) -> Iterator[Progress]:
    """Show progress on stderr. SIGTERM ends the program as ever, but with the cursor shown again.

    transient: nothing of it stays. To be used in the main thread.
    """
    console = Output(sys.stderr)
    with Progress(*columns, console=console, transient=transient) as progress:

        def end(*_: object) -> None:
            progress.stop()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, end)
        try:
            yield progress
        finally:
            signal.signal(signal.SIGTERM, before)
