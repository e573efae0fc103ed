"""A server as a person or a script starts it: spawn, ask /health until it answers, SIGTERM."""

import contextlib
import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters.runtime.launch_plan import with_options
from pool_service.core.types import Settings
from tools.bench.turns import free_port

POLL = 0.01
"""Seconds between two questions: finer than any of the field's own polls."""

DEFAULTS = "vllm-mlx serve by hand, polled each 10 ms"
SAME_OPTIONS = "vllm-mlx serve by hand, the same options"

START_TIMEOUT = 120.0
STOP_TIMEOUT = 20.0


@dataclass(frozen=True, slots=True)
class Started:
    """A server that answers. spawned, answered: seconds after the start began."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path
    spawned: float
    answered: float


def vllm_mlx(model: Path, port: int | str, options: Sequence[str] = ()) -> list[str]:
    """The command line of the real one."""
    program = str(Path(sys.executable).with_name("vllm-mlx"))
    return [program, "serve", str(model), "--port", str(port), *options]


def our_options(name: str) -> list[str]:
    """Return the options that the service adds for a model of this name."""
    prompt_bytes = Settings("").prompt_cache
    return [*with_options(["serve"], name, metrics=True, prompt_bytes=prompt_bytes)][1:]


def fake_server(model: str, port: int) -> list[str]:
    """That of the stand-in."""
    fake = str(Path("tests/fake_server.py").absolute())
    return [sys.executable, "-S", "-E", fake, "serve", model, "--port", str(port)]


def spawn(command: Sequence[str], log: Path, home: Path | None = None) -> "subprocess.Popen[bytes]":
    """Start it; what it writes goes to the log. home: its home directory, if not the user's."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("w") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            env=environment if home is None else environment | {"HOME": str(home)},
        )


def await_health(process: "subprocess.Popen[bytes]", port: int, poll: float) -> None:
    """Ask each `poll` seconds until it says 200. Raises RuntimeError if it does not come to."""
    deadline = time.monotonic() + START_TIMEOUT
    while not is_healthy(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} did not start: exit code {process.returncode}")
        time.sleep(poll)


def is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def end(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM, and SIGKILL if that is not enough."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    process.kill()
    process.wait()


@contextmanager
def started(
    directory: Path, model: Path, options: Sequence[str] = (), home: Path | None = None
) -> Iterator[Started]:
    """`vllm-mlx serve` on a port that was picked before, polled each 10 ms."""
    port, log = free_port(), directory / "by-hand.log"
    began = time.perf_counter()
    process = spawn(vllm_mlx(model, port, options), log, home)
    spawned = time.perf_counter() - began
    try:
        await_health(process, port, POLL)
        yield Started(process, port, log, spawned, time.perf_counter() - began)
    finally:
        end(process)
