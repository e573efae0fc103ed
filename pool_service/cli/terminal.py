"""A display on the terminal that leaves it as it was, however the program ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, ProgressColumn


@contextmanager
def display(*columns: ProgressColumn, transient: bool = False) -> Iterator[Progress]:
    """Show progress on stderr. SIGTERM ends the program as ever, but with the cursor shown again.

    transient: nothing of it stays. To be used in the main thread.
    """
    console = Console(stderr=True, highlight=False)
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
