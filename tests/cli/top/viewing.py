"""The view as a process at a terminal, over a service that answers what its script says."""

import fcntl
import struct
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.program import MAIN, Terminal, running, started_by
from tests.client.scripted import Gate, Refusal, Script, Stay, changed, synced

ALL = "q quit"
"""The end of each frame with the table."""

READS_AT_ONCE = "from pool_service.cli.top import controls; controls.READ_S = 0\n"
"""Makes a yes count as soon as its question is on the screen."""

PASTES_MARKED, PASTES_PLAIN = "\x1b[?2004h", "\x1b[?2004l"
"""Ask the terminal to mark pasted text, and no longer to mark it."""


def watched(service: Script, *more: pb.WatchResponse | Gate | Refusal) -> None:
    """Watch tells the server, then this."""
    service.answer("Watch", changed(1), synced(1), *more, Stay())


def resize(terminal: Terminal, width: int, height: int) -> None:
    fcntl.ioctl(terminal.writer, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


@contextmanager
def top(service: Script, terminal: Terminal, main: str = MAIN) -> Iterator["subprocess.Popen[str]"]:
    """The view, once it shows the server and what a look has told."""
    resize(terminal, 120, 30)
    process = started_by(main, service, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        terminal.wait_for("1 server")
        terminal.wait_for("> m")
        yield process
