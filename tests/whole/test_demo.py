"""The demo on a terminal: what it shows, and an interrupt at any of its steps."""

import os
import pty
import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.whole

ROOT = Path(__file__).resolve().parents[2]
CURSOR = re.compile(r"\x1b\[\?25[hl]")
KILLED = "(the service)"
SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Shown:
    """The demo on a terminal of its own, from which an interrupt is typed."""

    pid: int
    terminal: int
    output: str = ""

    def until(self, text: str) -> None:
        """Read until `text` was shown."""
        while text not in self.output:
            more = self.read()
            assert more, self.output
            self.output += more

    def rest(self) -> str:
        """Return what is shown from now to the end, without colours."""
        rest = ""
        while more := self.read():
            rest += more
        self.output += rest
        return SEQUENCE.sub("", rest)

    def read(self) -> str:
        try:
            return os.read(self.terminal, 65536).decode(errors="replace")
        except OSError:  # how Linux tells that nobody has the other side open
            return ""

    def interrupt(self) -> None:
        os.write(self.terminal, b"\x03")

    def code(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def shown_by(*command: str) -> Iterator[Shown]:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        # By it make tells its children that it is there, also the one that runs these tests.
        os.environ.pop("MAKELEVEL", None)
        os.execvp(command[0], command)
    try:
        yield Shown(pid, terminal)
    finally:
        os.close(terminal)


DEMO = (sys.executable, "-m", "tools.demo.run")


def processes_of_the_demo() -> list[str]:
    """Return the command lines of services and servers under the demo's state directory."""
    state = str(ROOT / ".cache/demo")
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        told = (*(process.info["cmdline"] or ()), *(process.info["environ"] or {}).values())
        if any(state in word for word in told):
            found.append(" ".join(process.info["cmdline"] or ()))
    return found


def test_it_shows_six_steps_and_says_what_to_type_next() -> None:
    with shown_by(*DEMO) as shown:
        rest = shown.rest()
        assert shown.code() == 0, rest
    steps = [f"{number}/6" for number in range(1, 7)]
    assert sorted(steps, key=rest.index) == steps
    for said in ("Paris", "refused, since it is held", "kill -9", "adopted 2 of 2", "make serve"):
        assert said in rest
    assert processes_of_the_demo() == []


@pytest.mark.parametrize(
    "moment",
    [
        "a standby imports",
        "ensure smollm2 ",
        "evict smollm2",
        KILLED,
        "adopted 2 of 2",
    ],
)
def test_an_interrupt_ends_it_in_one_line_and_leaves_nothing(moment: str) -> None:
    with shown_by(*DEMO) as shown:
        shown.until(moment)
        before = len(shown.output)
        shown.interrupt()
        shown.rest()
        assert shown.code() == 128 + signal.SIGINT
    after = shown.output[before:]
    (line,) = re.findall(r"Interrupted\..*", after)
    assert "Nothing is left running" in line
    assert "Traceback" not in after
    assert CURSOR.findall(shown.output)[-1:] != ["\x1b[?25l"]
    if moment == KILLED:
        # What stood by of that service ends by itself, which nobody waits for.
        while processes_of_the_demo():
            time.sleep(0.05)
    assert processes_of_the_demo() == []


def test_make_adds_no_line_to_an_interrupt(tmp_path: Path) -> None:
    makefile = tmp_path / "Makefile"
    makefile.write_text(f".PHONY: demo\ndemo:\n\t@{' '.join(DEMO)}\n")
    with shown_by("make", "-f", str(makefile), "demo") as shown:
        shown.until("a standby imports")
        shown.interrupt()
        assert "make:" not in shown.rest()
        assert shown.code() == -signal.SIGINT
