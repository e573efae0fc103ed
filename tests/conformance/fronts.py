"""Worlds that are a front over members: what scenarios are played at, of a fleet."""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance.kinds import Kind
from tests.conformance.runners import LIMIT
from tests.conformance.worlds import World
from tools.demo.service import STOP_TIMEOUT, RunningService, bound, command

MEMBER = """
[fleet]
name = "{name}"
advertise = "127.0.0.1"
hold_grace = "3s"
"""

# Nobody is lost here, however long a member takes to start on a busy machine.
FRONT = """
[front]
lost_after = "{lost_after}"
history = 100000
[members]
"""
LOST_AFTER = f"{LIMIT:g}s"


@dataclass(slots=True)
class FrontWorld(World):
    """A front over members on loopback. Harm is done to the front, unless it is said otherwise.

    members: their worlds. What is of the pool is configured there, and who may call at the front.
    """

    members: list[World] = field(init=False, default_factory=list)
    _starting_members: list[threading.Thread] = field(init=False, default_factory=list)

    @property
    def host(self) -> str:
        return "host0"

    def prepare(self) -> None:
        """Start the members, and write what the first front needs."""
        threads = [
            threading.Thread(target=self._add_member, args=(number,))
            for number in range(self.kind.members)
        ]
        _run(threads)
        assert len(self.members) == self.kind.members, "a member has not started"
        self.members.sort(key=lambda one: one.directory)
        self.configure()

    def _add_member(self, number: int) -> None:
        config = self.config + MEMBER.format(name=f"host{number}")
        kind = Kind(f"member{number}", self.kind.config)
        member = World(self.directory / kind.name, kind, config)
        self.members.append(member)

    @property
    def written(self) -> str:
        listed = "".join(
            f'host{number} = "{one.address}"\n' for number, one in enumerate(self.members)
        )
        return FRONT.format(lost_after=LOST_AFTER) + listed + self.access

    def limit(self, old: str, new: str) -> None:
        for member in self.members:
            member.limit(old, new)

    def restore_configuration(self) -> None:
        World.restore_configuration(self)
        for member in self.members:
            member.restore_configuration()

    def start(self) -> None:
        """The next front, when it is SERVING; and the next members, of those that have ended."""
        ended = [one for one in self.members if one.now.process.poll() is not None]
        threads = [threading.Thread(target=one.start) for one in ended]
        for thread in threads:
            thread.start()
        # Meanwhile the front waits for them.
        World.start(self)
        for thread in threads:
            thread.join()

    def serving(self, listen: list[str], log: Path) -> AbstractContextManager[RunningService]:
        return running_front(self.file, listen, log)

    def kill_all(self) -> None:
        self.kill()
        for member in self.members:
            member.kill()

    def await_end(self) -> None:
        """Until the front has ended, and then the members, which are told to."""
        World.await_end(self)
        for member in self.members:
            member.terminate()
        for member in self.members:
            member.await_end()

    def close(self) -> None:
        World.close(self)
        _run([threading.Thread(target=member.close) for member in self.members])


def _run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def running_front(config: Path, listen: list[str], log: Path) -> Iterator[RunningService]:
    """A front for as long as the block runs. Raises ServiceFailedError."""
    addresses = [word for address in listen for word in ("--listen", address)]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command("fleet", "serve", "--config", str(config), *addresses),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        yield RunningService(process, bound(process, len(listen), log), log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
