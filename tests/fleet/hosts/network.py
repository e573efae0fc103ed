"""A network of hosts on one Linux machine, for root: what can happen to hosts happens here.

A host is a network namespace with a link to a bridge, and a process namespace whose process 1 does
nothing but reap. Its files are those of the machine, but for /proc; it keeps its own in a directory
of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.fleet.hosts.clocks import shifted
from tests.fleet.hosts.namespaces import CLONE_NEWNS, CLONE_NEWPID, unshare, within
from tests.fleet.hosts.switch import Switch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[3]

_INIT = """
import signal, sys
# The kernel reaps the children of a process that ignores this.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print(flush=True)
sys.stdin.read()
"""
"""Process 1 of a host: it ends, and with it all others, when the process of the tests ends."""

_MOUNT = 'mount --make-rprivate / && mount -t proc proc /proc && exec "$@"'

_POLL_S = 0.002


class Direction(Enum):
    """Packets to a host, or packets from it."""

    TO = auto()
    FROM = auto()


class Host:
    """A host. See `Network.add`.

    directory: for its files, which a new start finds again. It is the home of its programs.
    """

    def __init__(self, name: str, directory: Path, switch: Switch) -> None:
        self.name = name
        self.address = switch.address(name)
        self.directory = directory
        self._switch = switch
        self._clock: Mapping[str, str] = {}
        self._processes: list[subprocess.Popen[str]] = []
        self._start()

    @property
    def is_up(self) -> bool:
        """Whether programs can run here: it was neither killed nor lost since its last start."""
        return self._init.returncode is None

    def popen(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdout: int | None = subprocess.DEVNULL,
        stderr: int | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[str]:
        """Start a program in this host. Its pid and signals are those of the machine."""
        variables = self._variables() | dict(environment or {})
        process = within(
            self._namespaces,
            lambda: subprocess.Popen(
                arguments,
                cwd=ROOT,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                text=True,
                start_new_session=True,
            ),
        )
        self._processes.append(process)
        return process

    def run(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a program in this host to its end; raise nothing for its exit code."""
        with self.popen(arguments, None, subprocess.PIPE, subprocess.PIPE) as process:
            try:
                out, error = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
            self._processes.remove(process)
            return subprocess.CompletedProcess(arguments, process.returncode, out, error)

    def pids(self) -> list[int]:
        """Return the processes of this host but process 1, by their numbers in the machine."""
        if not self.is_up:
            return []
        mine = os.fstat(self._namespaces[-1]).st_ino
        numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [one for one in numbers if one != self._init.pid and _namespace_of(one) == mine]

    def outer_pid(self, pid: int) -> int:
        """Return the number in the machine of a process that has this number in the host.

        A member tells the numbers in its host: never send a signal to one of those.
        """
        for one in self.pids():
            if _numbers_of(one)[-1:] == [pid]:
                return one
        raise ProcessLookupError(f"there is no process {pid} in the host {self.name}")

    def kill(self) -> None:
        """Kill all processes at once; the kernel lives and ends their connections."""
        self._init.kill()
        # The kernel ends process 1 when all others are reaped, which their parent has to do.
        for process in self._processes:
            process.wait()
        with self._init:
            pass
        while self._namespaces[1:]:
            os.close(self._namespaces.pop())

    def lose(self) -> None:
        """Lose the host at once: nothing is sent for its connections."""
        self.cut()
        self.kill()

    def boot(self) -> None:
        """Start the host again, with the same files and address, and a kernel that knows nothing.

        Kills all processes, if they are not.
        """
        if self.is_up:
            self.kill()
        self._switch.renew(self.name)
        self._start()

    def cut(self) -> None:
        """Cut its link, in both directions; processes in it go on."""
        self._switch.plug(self.name, connected=False)

    def cut_one_way(self, direction: Direction) -> None:
        """Lose all packets to or from this host, of all hosts that are there now."""
        for other in self._switch.names - {self.name}:
            self._switch.block(*self._pair(other, direction))

    def heal(self) -> None:
        """Undo every cut of this host."""
        for other in self._switch.names - {self.name}:
            for direction in Direction:
                self._switch.unblock(*self._pair(other, direction))
        self._switch.plug(self.name, connected=True)

    def pause(self) -> None:
        """Stop all processes; the kernel lives, and acknowledges what arrives."""
        while running := [pid for pid in self.pids() if not _is_stopped(pid)]:
            _send(signal.SIGSTOP, running)
            time.sleep(_POLL_S)

    def resume(self) -> None:
        """Let all processes go on."""
        _send(signal.SIGCONT, self.pids())

    def sleep(self) -> None:
        """Let the host sleep, as a Mac does: its processes stop and it answers nothing."""
        self.cut()
        self.pause()

    def wake(self) -> None:
        """Wake the host up. Unlike on a Mac, its monotonic clock went on."""
        self.resume()
        self.heal()

    def shift_clock(self, shift_s: int) -> None:
        """Shift the clock of the day of all programs that are started from now on.

        The model servers of a member keep the machine's, since they get a cleaned environment.
        """
        self._clock = shifted(self.directory, shift_s)

    def close(self) -> None:
        """Kill all processes, if they are not, and close what they could be read by."""
        if self.is_up:
            self.kill()
        for process in self._processes:
            with process:
                pass
        self._processes.clear()

    def _start(self) -> None:
        network = self._switch.namespace(self.name)

        def start() -> subprocess.Popen[str]:
            unshare(CLONE_NEWPID | CLONE_NEWNS)
            init = (sys.executable, "-I", "-S", "-c", _INIT)
            pipe = subprocess.PIPE
            command = ["/bin/sh", "-c", _MOUNT, "init", *init]
            return subprocess.Popen(
                command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
            )

        self._init = within([network], start)
        assert self._init.stdout is not None
        if self._init.stdout.readline() != "\n":
            raise RuntimeError(f"the host {self.name} did not start")
        parts = [Path(f"/proc/{self._init.pid}/ns") / kind for kind in ("mnt", "pid")]
        self._namespaces = [network, *(os.open(part, os.O_RDONLY) for part in parts)]

    def _variables(self) -> dict[str, str]:
        own = {
            "HOME": str(self.directory),
            "XDG_STATE_HOME": str(self.directory / "xdg-state"),
            "TMPDIR": str(self.directory),
        }
        return {**os.environ, **own, **self._clock}

    def _pair(self, other: str, direction: Direction) -> tuple[str, str]:
        return (other, self.name) if direction is Direction.TO else (self.name, other)


class Network:
    """Hosts that reach each other and the tests, until `close`; directory: for their files.

    It cleans up also when the process of the tests is killed. Networks of several processes do not
    disturb each other.
    """

    def __init__(self, directory: Path) -> None:
        self.hosts: dict[str, Host] = {}
        self.switch = Switch()
        self._directory = directory

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def address(self) -> str:
        """The address of the tests."""
        return self.switch.address("")

    def add(self, name: str) -> Host:
        """Make a host and start it."""
        directory = self._directory / name
        directory.mkdir(mode=0o700)
        self.switch.add(name)
        self.hosts[name] = Host(name, directory, self.switch)
        return self.hosts[name]

    def close(self) -> None:
        """Kill all hosts and remove what is left of them but for their files."""
        for host in self.hosts.values():
            host.close()
        self.switch.close()


def _namespace_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return None


def _numbers_of(pid: int) -> list[int]:
    """Return the numbers of a process in all namespaces, that of the innermost last."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return [int(word) for word in status.partition("NSpid:")[2].split("\n")[0].split()]


def _is_stopped(pid: int) -> bool:
    """Return whether a process is stopped, or has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return True
    return fields[0] in "TtZX"


def _send(number: signal.Signals, pids: Sequence[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
