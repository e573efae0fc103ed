"""One state directory, and the services that hold it one after the other."""

import http.client
import json
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from weakref import finalize

import psutil

from pool_service.adapters.state_dir.guard_sentry import COMMAND_VARIABLE
from pool_service_client import (
    Event,
    PoolClient,
    RetryPolicy,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerState,
    Synced,
)
from tests.faults.invariants import Invariants, pool_processes
from tests.lasting_port import lasting_port
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import RunningService, running

DONE = b"data: [DONE]"


class Lives:
    """Services on one state directory and one address, each a subprocess of its own.

    All are told `config`. The invariants are checked of the one that is there at the end.
    """

    def __init__(self, root: Path, config: str) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.now: RunningService
        self._config = root / "config.toml"
        self._config.write_text(config)
        self._address = f"127.0.0.1:{lasting_port()}"
        self._watcher: Invariants | None = None
        self._stack = ExitStack()
        self._count = 0

    def start(self, *arguments: str) -> RunningService:
        """The next service, when it is SERVING; on the address of the first."""
        self._count += 1
        self.now = self._stack.enter_context(
            running(
                self.state_dir,
                [self._address],
                ["--config", str(self._config), *arguments],
                log=self.root / f"service-{self._count}.log",
            )
        )
        self._address = self.now.address
        watcher = Invariants(self._address, self.now.process.pid, self.state_dir)
        self._watcher = self._stack.enter_context(watcher)
        return self.now

    def kill(self) -> None:
        """The present service dies as by kill -9."""
        self.now.process.kill()
        self.now.process.wait()

    @contextmanager
    def pool(self, retry: RetryPolicy = RetryPolicy()) -> Iterator[PoolClient]:  # noqa: B008 - frozen
        """A client of whichever service there is."""
        with PoolClient.connect(self._address, retry=retry) as client:
            yield client

    def log(self) -> str:
        """What the present service has logged."""
        return self.now.log.read_text()

    def await_logged(self, text: str) -> None:
        """Return when the present service has logged it; an answer of it may come before."""
        while text not in self.log():
            time.sleep(0.01)

    def processes(self) -> list[psutil.Process]:
        """All that lives of it, known by its directory: services, guard, servers, their own."""
        return [process for process in psutil.process_iter() if self._is_of_it(process)]

    def servers(self) -> set[int]:
        """Return the pids of the servers, whether anybody knows them or not.

        A server's own children are none: mlx runs a compiler for an instant at its first answer.
        """
        pids = pool_processes(self.state_dir).keys()
        found = set()
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                if psutil.Process(pid).ppid() not in pids:
                    found.add(pid)
        return found

    def await_record_of(self, pid: int) -> None:
        """Return when it is on disk which process this is; what a Watch tells may come before."""
        records = self.state_dir / "servers"
        while not any(f'"pid":{pid},' in file.read_text() for file in records.glob("*.json")):
            time.sleep(0.001)

    def guards(self) -> list[psutil.Process]:
        return [one for one in self.processes() if "pool_service.guard" in _words(one)]

    def check(self) -> None:
        """Of a service that is there, the invariants hold."""
        if self._watcher is not None and self.now.process.poll() is None:
            self._watcher.check()

    def close(self) -> None:
        """End all of it by force, the sentries first: they would follow the others."""
        for process in sorted(self.processes(), key=lambda one: not _becomes(one)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._stack.close()

    def _is_of_it(self, process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                here = str(self.root)
                return _directory(process).startswith(here) or any(
                    here in word for word in (*_words(process), _becomes(process))
                )
        return False


def _directory(process: psutil.Process) -> str:
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def _becomes(process: psutil.Process) -> str:
    """Of a guard's sentry what it becomes, which its arguments do not tell."""
    try:
        is_shell = process.name() in ("sh", "dash", "bash")
        return process.environ().get(COMMAND_VARIABLE, "") if is_shell else ""
    except psutil.Error:
        return ""


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def fake_lives(root: Path, config: str = "") -> Iterator[Lives]:
    """Lives whose runtime is the fake server."""
    yield from _checked(Lives(root, FAKE_RUNTIME + config))


@contextmanager
def real_lives(root: Path, config: str = "") -> Iterator[Lives]:
    """Lives whose runtime is the real vllm-mlx."""
    yield from _checked(Lives(root, config))


def _checked(lives: Lives) -> Iterator[Lives]:
    try:
        yield lives
        lives.check()
    finally:
        lives.close()


class Endpoint(Protocol):
    """What is needed of a server in order to ask it."""

    @property
    def endpoint(self) -> str: ...

    @property
    def served_model_name(self) -> str: ...

    @property
    def api_key(self) -> str: ...


class Stream:
    """A streamed answer under way, whose bytes are all kept."""

    def __init__(self, server: Endpoint, tokens: int) -> None:
        url = urlsplit(server.endpoint)
        self._tokens = tokens
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port)
        body = {
            "model": server.served_model_name,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }
        key = server.api_key
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        self._response = self._connection.getresponse()
        # A test that fails closes nothing: a test after it would be blamed for the open socket.
        finalize(self, _close, self._response, self._connection)
        self._text = self._response.readline()

    def is_complete(self) -> bool:
        """Read to its end: whether every token and the mark of the end have come."""
        self._text += self._response.read()
        self.close()
        events = [line for line in self._text.splitlines() if line.startswith(b"data: ")]
        chunks = [json.loads(line.removeprefix(b"data: ")) for line in events if line != DONE]
        choices = [choice for chunk in chunks for choice in chunk["choices"]]
        reasons = {choice.get("finish_reason") for choice in choices} - {None}
        return events[-1] == DONE and reasons == {"length"}

    def close(self) -> None:
        """Read no more of it."""
        _close(self._response, self._connection)


def _close(response: http.client.HTTPResponse, connection: http.client.HTTPConnection) -> None:
    response.close()
    connection.close()


def seen(pool: PoolClient, model: str, *states: ServerState) -> Server:
    """The model's server as soon as it is in one of these states, with a process or FAILED."""
    with pool.watch() as events:
        return first_of(events, model, *states)


def first_of(events: Iterable[Event], model: str, *states: ServerState) -> Server:
    """The same, of a watch that was begun before: a start from a standby is over in an instant."""
    for event in events:
        if isinstance(event, ServerChanged) and event.server.model == model:
            server = event.server
            if server.state in states and (server.pid or server.state is ServerState.FAILED):
                return server
    raise AssertionError("the watch ended")


def settled(pool: PoolClient) -> dict[str, Server]:
    """The pool as soon as every server that it has is READY or FAILED."""
    servers: dict[tuple[str, int], Server] = {}
    synced = False
    with pool.watch() as events:
        for event in events:
            if isinstance(event, ServerChanged):
                servers[event.server.model, event.server.generation] = event.server
            elif isinstance(event, ServerRemoved):
                servers.pop((event.server.model, event.server.generation), None)
            synced = synced or isinstance(event, Synced)
            if synced and all(
                one.state in (ServerState.READY, ServerState.FAILED) for one in servers.values()
            ):
                return {one.model: one for one in servers.values()}
    raise AssertionError("the watch ended")


def same_process(one: Server, other: Server) -> bool:
    """Whether both tell of the same process at the same endpoint."""
    return (one.pid, one.endpoint, one.generation) == (other.pid, other.endpoint, other.generation)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
