"""The program as a process of its own, and a terminal for it."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.client.scripted import Script

MAIN = "from pool_service.cli import main; main()"
LIMIT_S = 60
"""The time for what a program is to write, however loaded the machine is."""


def started(
    script: Script,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    return started_by(MAIN, script, *arguments, stdin=stdin, stdout=stdout, stderr=stderr)


def started_by(
    code: str,
    script: Script,
    *arguments: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """In a process group of its own, so that Ctrl-C can be sent to all that a terminal would."""
    # A size that the environment tells would hide the terminal's.
    own = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**own, "POOL_SERVICE_ADDRESS": script.address, "TERM": "xterm"},
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
        process_group=0,
    )


@dataclass
class Terminal:
    """What is written to a pseudo-terminal."""

    reader: int
    writer: int
    seen: str = field(default="")

    def wait_for(self, text: str) -> None:
        while text not in self.seen:
            self._read(text)

    def wait_for_screen(self, *texts: str, without: str = "\0") -> None:
        """Wait until a program that fills the screen has drawn all these texts in one frame."""
        while True:
            # Each frame begins at home; the one before the last is whole.
            *_, whole, newest = ("", *self.seen.split("\x1b[H"))
            for frame in (whole, newest):
                if all(text in frame for text in texts) and without not in frame:
                    return
            self._read(f"a screen with {texts}, without {without!r},")

    def _read(self, wanted: str) -> None:
        assert select.select([self.reader], [], [], LIMIT_S)[0], f"{wanted!r} not in {self.seen!r}"
        self.seen += os.read(self.reader, 65536).decode()

    def type(self, keys: str) -> None:
        os.write(self.reader, keys.encode())

    def forget(self) -> None:
        """Wait from now on for what comes from now on."""
        self.seen = ""


@contextmanager
def running(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()
