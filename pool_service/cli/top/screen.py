"""The terminal of `top`: frames go out, keys come in, and it is restored however the view ends."""

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Group
from rich.live import Live
from rich.text import Text

from pool_service.cli.appearance import has_symbols
from pool_service.cli.terminal import TerminalConsole

_READ_BYTES = 4096
_DEFAULT_SIZE = (80, 24)
"""The width and the height in cells, of a terminal that does not report them."""

_MARK_PASTED, _MARK_NOTHING = "\x1b[?2004h", "\x1b[?2004l"
"""Whether the terminal marks the beginning and the end of a text that is pasted."""


class Screen:
    """The terminal of standard input and output; create it by `opened`."""

    def __init__(self) -> None:
        self.descriptor = sys.stdin.fileno()
        self.has_symbols = has_symbols(sys.stdout)
        self._console = TerminalConsole(sys.stdout, fills_screen=True)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._settings = termios.tcgetattr(self.descriptor)
        self._shown: Sequence[object] = ()

    def measure(self) -> tuple[int, int]:
        """Return the width and the height of the terminal in cells, and draw for these from now on.

        COLUMNS and LINES do not count: they are of the time when a shell exported them.
        """
        width, height = os.get_terminal_size(sys.stdout.fileno())
        self._console.size = (width or _DEFAULT_SIZE[0], height or _DEFAULT_SIZE[1])
        return self._console.size

    def take(self) -> None:
        """Take the terminal: each key comes at once and unseen, and frames replace what is shown.

        Ctrl-C, Ctrl-Z and the like remain signals. Text that is pasted is marked as such.
        """
        tty.setcbreak(self.descriptor)
        self._live.start()
        self._write(_MARK_PASTED)
        self._shown = ()

    def give_back(self) -> None:
        """Show again what was there before, and restore the terminal's settings.

        What was typed and is not read yet is dropped: for the shell it would be a command.
        """
        try:
            self._write(_MARK_NOTHING)
            self._live.stop()
        finally:
            termios.tcsetattr(self.descriptor, termios.TCSAFLUSH, self._settings)

    def _write(self, control: str) -> None:
        self._console.file.write(control)
        self._console.file.flush()

    def draw(self, lines: Sequence[Text], *, anew: bool = False) -> None:
        """Show a frame, if it differs from the one that is shown. anew: in any case."""
        # Texts are equal for rich whatever their own style is.
        shown = [(line.plain, line.style, line.spans) for line in lines]
        if anew or shown != self._shown:
            self._live.update(Group(*lines), refresh=True)
        self._shown = shown

    def read(self) -> bytes | None:
        """Return what was typed; None if nothing was, and no bytes if the terminal is gone.

        What was typed may have been dropped since it was noticed, and to read would then wait for
        the next key.
        """
        if not select.select([self.descriptor], [], [], 0)[0]:
            return None
        try:
            return os.read(self.descriptor, _READ_BYTES)
        except OSError:
            return b""


@contextmanager
def opened() -> Iterator[Screen]:
    """Yield the terminal's screen, and give the terminal back at the end of the block."""
    screen = Screen()
    try:
        screen.take()
        yield screen
    finally:
        # It may be gone: its window was closed.
        with suppress(OSError, termios.error):
            screen.give_back()
