"""A display on the terminal that leaves it as it was, however the program ends."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, ProgressColumn

from pool_service.cli.appearance import has_symbols, is_coloured


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


class Output(Console):
    """A rich console that takes our word on colours and symbols."""

    def __init__(self, stream: TextIO, **options: Any) -> None:  # noqa: ANN401  # rich's own
        coloured = is_coloured(stream)
        self._is_ascii = not has_symbols(stream)
        super().__init__(
            file=stream,
            highlight=False,
            color_system="auto" if coloured else None,
            force_terminal=True if coloured and not stream.isatty() else None,
            **options,
        )

    @property
    def encoding(self) -> str:
        """By which rich chooses between lines and letters of ASCII."""
        return "ascii" if self._is_ascii else super().encoding

    def on_broken_pipe(self) -> None:
        """Leave it to `outcome.Group`: rich would end the program with 1."""
        raise  # noqa: PLE0704  # called where it is handled
