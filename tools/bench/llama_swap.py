"""llama-swap: a proxy that starts a server when it is asked for one, with the same runtime.

What is compared with llama-swap is left out where PATH has no such program.
"""

import http.client
import json
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tools.bench import by_hand
from tools.bench.turns import free_port, free_ports

PROGRAM = "llama-swap"
DEFAULTS = "llama-swap, the runtime's defaults"
START_TIMEOUT_S = 120
ANSWER_TIMEOUT_S = 600
"""Before the first byte of an answer: its own limit of 60 s is too short for a long prompt here."""

POLL_S = 0.02
STREAMS_AT_ONCE = 1000
"""Of one model; its own limit is ten, beyond which requests are refused."""

THEIR_OWN = "http://127.0.0.1:${PORT}"
"""The address of a server that it starts."""


@dataclass(frozen=True, slots=True)
class LlamaSwap:
    """A llama-swap that listens on `port`."""

    process: "subprocess.Popen[bytes]"
    port: int

    def unload(self) -> None:
        """Stop all servers. Raises TimeoutError."""
        self._get("/unload")
        self.await_running(0)

    def kill(self, model: Path) -> None:
        """Kill the server of a model, and wait until llama-swap knows. Raises TimeoutError."""
        servers = psutil.Process(self.process.pid).children()
        server = next(one for one in servers if str(model) in one.cmdline())
        server.kill()
        self.await_running(len(servers) - 1)

    def await_running(self, count: int) -> None:
        """Wait until so many servers are running. Raises TimeoutError."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(json.loads(self._get("/running"))["running"]) != count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"llama-swap does not come to {count} running servers")
            time.sleep(POLL_S)

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()


def is_installed() -> bool:
    """Return whether PATH has a llama-swap."""
    return shutil.which(PROGRAM) is not None


def version() -> str:
    """Return the version and commit that llama-swap tells of itself; "none" without one."""
    if not is_installed():
        return "none"
    told = subprocess.run((PROGRAM, "-version"), capture_output=True, text=True, check=True).stdout
    return told.removeprefix("version: ").partition(",")[0].strip()


def command(model: Path, options: Sequence[str]) -> list[str]:
    """Return a model's command, with the macro of its port."""
    return by_hand.vllm_mlx(model, "${PORT}", options)


def configuration(
    commands: Mapping[str, Sequence[str]],
    home: Path,
    *,
    one_at_a_time: bool,
    server: str = THEIR_OWN,
) -> str:
    """Return its configuration: YAML, of which JSON is a part.

    commands: of each model, with ${PORT}; home: the home directory of the servers;
    server: where the servers of all commands answer.
    """
    models = {
        name: {
            "cmd": shlex.join(command),
            "proxy": server,
            "concurrencyLimit": STREAMS_AT_ONCE,
            "env": [f"HOME={home}"],
            "timeouts": {"responseHeader": ANSWER_TIMEOUT_S},
        }
        for name, command in commands.items()
    }
    group = {"swap": one_at_a_time, "exclusive": one_at_a_time, "members": [*commands]}
    settings = {"groups": {"all": group}}
    return json.dumps(
        {
            "healthCheckTimeout": START_TIMEOUT_S,
            "startPort": free_ports(len(models)),
            "models": models,
            "routing": {"router": {"use": "group", "settings": settings}},
        }
    )


@contextmanager
def running(
    directory: Path,
    commands: Mapping[str, Sequence[str]],
    *,
    one_at_a_time: bool = True,
    server: str = THEIR_OWN,
) -> Iterator[LlamaSwap]:
    """Run one for as long as the block runs; the directory is also its servers' home."""
    directory.mkdir(parents=True, exist_ok=True)
    config, port = directory / "llama-swap.yaml", free_port()
    config.write_text(
        configuration(commands, directory, one_at_a_time=one_at_a_time, server=server)
    )
    arguments = [PROGRAM, "-config", str(config), "-listen", f"127.0.0.1:{port}"]
    process = by_hand.spawn(arguments, directory / "llama-swap.log")
    try:
        by_hand.await_health(process, port, by_hand.POLL)
        yield LlamaSwap(process, port)
    finally:
        by_hand.end(process)
