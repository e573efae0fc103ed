"""Runs the service as a subprocess, for the demo, the benchmarks and the tests."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT = 60.0
"""Seconds; a drain of idle servers takes one or two."""


class ServiceFailedError(Exception):
    """The service ended before it was SERVING; the message holds its log."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that is SERVING. addresses: in the order in which they were asked for."""

    process: "subprocess.Popen[str]"
    addresses: tuple[str, ...]
    log: Path

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]

    def stop(self) -> int:
        """Stop it as an operator would; returns its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT)


def command(*arguments: str) -> list[str]:
    """The command line of `pool-service`, by the interpreter that runs this."""
    return [str(Path(sys.executable).with_name("pool-service")), *arguments]


@contextmanager
def running(
    state_dir: Path,
    listen: Sequence[str] = ("127.0.0.1:0",),
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    wrapper: Sequence[str] = (),
    process_group: int | None = None,
) -> Iterator[RunningService]:
    """A service for as long as the block runs; stopped with its servers at its end.

    log: where its stderr goes; by default into the state directory; wrapper: a command that
    becomes the one that follows it; process_group: 0 for one of its own, which an interrupt of
    the terminal does not reach. Raises ServiceFailedError.
    """
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = log or state_dir / "service.log"
    addresses = [word for address in listen for word in ("--listen", address)]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [
                *wrapper,
                *command("serve", "--state-dir", str(state_dir), *addresses, *arguments),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            process_group=process_group,
            env=None if environment is None else dict(environment),
        )
    service = None
    try:
        service = RunningService(process, bound(process, len(listen), log), log)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def bound(process: "subprocess.Popen[str]", count: int, log: Path) -> tuple[str, ...]:
    """Return the addresses that a service or front says it listens on, once it is SERVING."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(count)]
    if not all(line.startswith("listening on ") for line in lines):
        raise ServiceFailedError(f"the service did not start:\n{log.read_text()}")
    return tuple(line.removeprefix("listening on ").strip() for line in lines)
