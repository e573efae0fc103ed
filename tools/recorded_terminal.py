"""A terminal of tmux that is recorded as a picture."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

COLUMNS: Final = 100
TIMEOUT_S: Final = 300
POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class RecordedTerminal:
    """A terminal that runs a command."""

    tmux: tuple[str, ...]
    environment: Mapping[str, str]

    def wait_for_signal(self) -> None:
        """Wait until the command has run `signal_command`."""
        self._run("wait-for", "done")

    def type(self, *keys: str) -> None:
        """Type keys, by tmux's names for them."""
        self._run("send-keys", *keys)

    def wait_until(self, holds: Callable[[str], bool]) -> str:
        """Return the screen, with its escape sequences, once its text is as wanted."""
        end = time.monotonic() + TIMEOUT_S
        while not holds(screen := self.screen()):
            if time.monotonic() > end:
                raise TimeoutError(f"this screen is not as wanted:\n{screen}")
            time.sleep(POLL_S)
        return screen

    def screen(self) -> str:
        """Return what stands on the terminal, with its escape sequences."""
        return self._run("capture-pane", "-e", "-p")

    def _run(self, *words: str) -> str:
        done = subprocess.run(
            [*self.tmux, *words],
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=True,
            timeout=TIMEOUT_S,
        )
        return done.stdout


def _tmux(directory: Path) -> tuple[str, ...]:
    return ("tmux", "-f", os.devnull, "-S", str(directory / "tmux"))


def signal_command(directory: Path) -> str:
    """Return the shell command that ends `RecordedTerminal.wait_for_signal`."""
    return f"{shlex.join(_tmux(directory))} wait-for -S done"


@contextmanager
def recorded(
    directory: Path, command: str, environment: Mapping[str, str], lines: int
) -> Iterator[RecordedTerminal]:
    """Run a shell command on a terminal of COLUMNS and so many lines, until the block ends."""
    terminal = RecordedTerminal(_tmux(directory), environment)
    size = ("-x", str(COLUMNS), "-y", str(lines))
    try:
        terminal._run("new-session", "-d", *size, command)  # noqa: SLF001  # made here
        yield terminal
    finally:
        end = [*terminal.tmux, "kill-server"]
        subprocess.run(end, check=False, stderr=subprocess.DEVNULL)


def picture(screen: str) -> str:
    """Return an SVG of a terminal's screen that needs nothing from the network."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(Text.from_ansi(screen.rstrip()))
    svg = console.export_svg(title="pool-service", theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code,", "ui-monospace, Menlo, DejaVu Sans Mono,")
    return re.sub(r" +$", "", svg, flags=re.MULTILINE).replace("https://www.textualize.io", "")
