"""Shows the demo on a terminal or in a pipe: its steps, and that what takes long goes on."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

INDENT: Final = "     "
SIGN_OF_LIFE_S: Final = 5.0
"""How often a pipe, which has no spinner, gets a line while something goes on."""


@dataclass(slots=True)
class Stage:
    """Prints numbered steps: with colours and a spinner on a terminal, else plain lines.

    Attributes:
        steps: how many there will be.
        console: where they are printed.
    """

    steps: int
    console: Console = field(default_factory=lambda: Console(highlight=False, soft_wrap=True))
    _step: int = 0
    _began: float = field(default_factory=time.monotonic)

    def step(self, title: str) -> None:
        """Announce the next step."""
        self._step += 1
        self.console.print(f"\n[bold cyan]{self._step}/{self.steps}[/]  [bold]{escape(title)}[/]")

    def say(self, markup: str) -> None:
        """Print lines of rich's markup, indented."""
        for line in markup.splitlines():
            self.console.print(f"{INDENT}{line}")

    def typed(self, command_line: str) -> None:
        """Show a command as if it were typed."""
        self.say(f"[green]$ {escape(command_line)}[/]")

    def done(self, markup: str) -> None:
        """Say that something came out well."""
        sign = "✓" if self.console.encoding.startswith("utf") else "ok:"
        self.say(f"[green]{sign}[/] {markup}")

    @contextmanager
    def going_on(self, text: str) -> Iterator[None]:
        """Show within the block that `text` goes on, and after it how many seconds that took.

        A block that an error leaves says nothing at its end.
        """
        began = time.monotonic()
        with self._spinner(text) if self.console.is_terminal else self._signs_of_life(text):
            yield
        self.done(f"{escape(text)} [dim]({time.monotonic() - began:.1f} s)[/]")

    @contextmanager
    def one_after_the_other(self) -> Iterator[Callable[[str], None]]:
        """Yield a function that shows its text as going on, until its next call or the end."""
        with ExitStack() as present:

            def show(text: str) -> None:
                present.close()
                present.enter_context(self.going_on(text))

            yield show

    def words(self, heading: str) -> "Words":
        """Begin a paragraph that is written word by word."""
        return Words(self.console, heading)

    def elapsed_s(self) -> float:
        """Return the seconds since the stage was made."""
        return time.monotonic() - self._began

    @contextmanager
    def _spinner(self, text: str) -> Iterator[None]:
        spinner = SpinnerColumn("dots" if self.console.encoding.startswith("utf") else "line")
        columns = (TextColumn("    "), spinner, TextColumn("{task.description}"))
        with Progress(
            *columns, TimeElapsedColumn(), console=self.console, transient=True
        ) as progress:
            progress.add_task(escape(text), total=None)
            yield

    @contextmanager
    def _signs_of_life(self, text: str) -> Iterator[None]:
        ended = threading.Event()

        def tell() -> None:
            began = time.monotonic()
            while not ended.wait(SIGN_OF_LIFE_S):
                self.say(f"... {escape(text)} ({time.monotonic() - began:.0f} s)")

        teller = threading.Thread(target=tell)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()


class Words:
    """Prints text as it comes, in lines as wide as the console, indented."""

    def __init__(self, console: Console, heading: str) -> None:
        """Print `heading`, markup of rich, over the text."""
        self._console = console
        self._word = ""
        self._column = console.width
        console.print(f"{INDENT}{heading}", end="")

    def add(self, piece: str) -> None:
        """Print the next piece of the text; its last word comes with the next one."""
        for character in piece:
            if character.isspace():
                self._put_word()
                if character == "\n":
                    self._column = self._console.width
            else:
                self._word += character

    def aside(self, markup: str) -> None:
        """Print a line of rich's markup between the text before it and the text after it."""
        self.end()
        self._console.print(f"{INDENT}{markup}", end="")

    def end(self) -> None:
        """Print what is left, and end the line."""
        self._put_word()
        self._console.print()
        self._column = self._console.width

    def _put_word(self) -> None:
        if not self._word:
            return
        before = " "
        if self._column + 1 + len(self._word) > self._console.width:
            before, self._column = f"\n{INDENT}", len(INDENT) - 1
        self._console.print(before + self._word, end="", markup=False)
        self._column += 1 + len(self._word)
        self._word = ""
