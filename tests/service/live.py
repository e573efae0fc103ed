"""The live view of `pool-service top` at a pseudo-terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.cli.program import Terminal
from tools.demo.service import command


@contextmanager
def a_terminal() -> Iterator[Terminal]:
    """A terminal of 120 columns and 30 lines."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    yield Terminal(reader, writer)
    os.close(reader)
    os.close(writer)


@contextmanager
def top(
    address: str, terminal: Terminal, program: Sequence[str] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """The view, until the block ends. program: what runs it; empty: the one that is installed."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    process = subprocess.Popen(
        [*(program or command()), "top", "--address", address],
        stdin=terminal.writer,
        stdout=terminal.writer,
        stderr=subprocess.PIPE,
        env={**environment, "TERM": "xterm", "NO_COLOR": "1", "LC_ALL": "C"},
        text=True,
        process_group=0,
    )
    with process:
        try:
            terminal.wait_for("q quit")
            yield process
        finally:
            process.kill()
