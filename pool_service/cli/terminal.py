"""Displays on the terminal that restore it, however the program ends."""

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
    """Show progress on stderr within the block.

    SIGTERM restores the cursor before it ends the program.

    transient: remove the display at the end. Call it in the main thread only.
    """
    console = TerminalConsole(sys.stderr)
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


class TerminalConsole(Console):
    """A rich console that has colours and symbols where `appearance` says so.

    fills_screen: the stream is known to be a terminal that can move its cursor, whatever
    FORCE_COLOR, TTY_COMPATIBLE and TTY_INTERACTIVE say.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        fills_screen: bool = False,
        **options: Any,  # noqa: ANN401  # rich's own
    ) -> None:
        coloured = is_coloured(stream)
        self._is_ascii = not has_symbols(stream)
        super().__init__(
            file=stream,
            highlight=False,
            color_system="auto" if coloured else None,
            force_terminal=fills_screen or (coloured and not stream.isatty()) or None,
            force_interactive=fills_screen or None,
            **options,
        )

    @property
    def encoding(self) -> str:
        """The encoding, by which rich chooses between ASCII and other characters."""
        return "ascii" if self._is_ascii else super().encoding

    def on_broken_pipe(self) -> None:
        """Raise the error on to `exit_codes.Group`: rich would exit with 1."""
        raise  # noqa: PLE0704  # rich calls this while it handles the error
