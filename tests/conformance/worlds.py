"""The services that scenarios are played at: real ones."""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pool_service_client import (
    PoolClient,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerRole,
    Synced,
)
from tests.conformance.kinds import FAR, RUNTIME, Kind, Surroundings
from tests.conformance.runners import LIMIT
from tools.demo.service import RunningService, running


@dataclass(slots=True)
class World:
    """A service, and the next ones in its place.

    address, socket: stay the same. pool: the conductor's own client, which knows the truth and
    shows the token. config: the pool's; access: who may call, and how.
    """

    directory: Path
    kind: Kind
    config: str
    access: str = ""
    now: RunningService = field(init=False)
    address: str = field(init=False, default="127.0.0.1:0")
    socket: str = field(init=False)
    pool: PoolClient = field(init=False)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)
    _count: int = field(init=False, default=0)
    _starting: threading.Thread | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.directory.mkdir(exist_ok=True)
        self.socket = f"unix:{self.directory}/s"
        self.prepare()
        self.start()
        connecting = PoolClient.connect(self.address, token=self.kind.token)
        self.pool = self._stack.enter_context(connecting)

    @property
    def host(self) -> str:
        """The host that servers say, if there is one member only; empty: it is no fleet."""
        return ""

    def prepare(self) -> None:
        """Write what the first service needs."""
        self.configure()

    @property
    def written(self) -> str:
        """The configuration that the service began with."""
        return RUNTIME + self.config + self.access

    def configure(self, more: str = "", old: str = "", new: str = "") -> None:
        """Write its configuration, and this besides or instead; the service is not told."""
        self.file.write_text(self.written.replace(old, new) + more)

    def limit(self, old: str, new: str) -> None:
        """Configure the pool so, and let the service know."""
        self.configure("", old, new)
        self.pool.reload()

    @property
    def file(self) -> Path:
        """The file of its configuration."""
        return self.directory / "config.toml"

    def start(self) -> None:
        """The next service, when it is SERVING."""
        self._count += 1
        far = [FAR] if self.kind.is_far else []
        listen = [self.address, self.socket, *self._more_sockets, *far]
        log = self.directory / f"service-{self._count}.log"
        self.now = self._stack.enter_context(self.serving(listen, log))
        self.address = self.now.address

    def serving(self, listen: list[str], log: Path) -> AbstractContextManager[RunningService]:
        """Run the next service for as long as the block runs."""
        return running(self.directory / "state", listen, ["--config", str(self.file)], log=log)

    @property
    def encrypted(self) -> str:
        """Where a client speaks TLS, as its certificate names it; empty: nowhere."""
        port = self.now.addresses[-1].rpartition(":")[2]
        return f"localhost:{port}" if self.kind.is_far else ""

    @property
    def unnamed(self) -> str:
        """The same by an address that its certificate does not name, or nobody has."""
        return self.encrypted.replace("localhost", "127.0.0.2")

    @property
    def _more_sockets(self) -> list[str]:
        return [f"unix:{self.directory.parent}/{path}" for path in self.kind.sockets]

    def begin(self) -> None:
        """The next service, as soon as it answers at all; its recovery goes on."""
        self._starting = threading.Thread(target=self.start)
        self._starting.start()
        with grpc.insecure_channel(self.address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=LIMIT)

    def await_serving(self) -> None:
        """Until the service that was begun is SERVING."""
        assert self._starting is not None
        self._starting.join()

    def kill(self) -> None:
        """As by kill -9."""
        self.now.process.kill()
        self.now.process.wait()

    def kill_all(self) -> None:
        """The same for whatever stands behind it, too."""
        self.kill()

    def terminate(self) -> None:
        """Let it drain and end, as by SIGTERM."""
        self.now.process.terminate()

    def await_end(self) -> None:
        """Until it has ended, and with it its servers."""
        self.now.process.wait(LIMIT)

    def await_pool(self, suits: Callable[[Mapping[str, Server]], bool]) -> None:
        """Until the pool's current servers, by their models, are like this."""
        servers: dict[tuple[str, int], Server] = {}
        synced = False
        with self.pool.watch() as events:
            overdue = threading.Timer(LIMIT, events.close)
            overdue.start()
            try:
                for event in events:
                    match event:
                        case ServerChanged():
                            servers[event.server.model, event.server.generation] = event.server
                        case ServerRemoved():
                            servers.pop((event.server.model, event.server.generation), None)
                        case Synced():
                            synced = True
                    if synced and suits(_by_model(servers.values())):
                        return
            finally:
                overdue.cancel()
        known = {known: server.state.name for known, server in servers.items()}
        raise AssertionError(f"the pool did not become as expected: {known}")

    def restore(self, prefix: str) -> None:
        """As it was before a scenario, whose models begin with `prefix`."""
        if self._starting is not None:
            self._starting.join()
        if self.now.process.poll() is not None:
            self.start()
        self.restore_configuration()
        for server in self.pool.list():
            if server.model.startswith(prefix):
                self.pool.evict(server.model, force=True)

    def restore_configuration(self) -> None:
        """As it was before the scenario."""
        if self.file.read_text() != self.written:
            self.configure()
            self.pool.reload()

    def close(self) -> None:
        """Stop it and its servers."""
        self._stack.close()


def _by_model(servers: Iterable[Server]) -> dict[str, Server]:
    """Return the servers that callers get, by their models."""
    return {one.model: one for one in servers if one.role is ServerRole.CURRENT}


class Worlds:
    """Each is started when it is first asked for, and stays until the end.

    make: World, or what has the same place before other services.
    """

    def __init__(self, surroundings: Surroundings, make: type[World] = World) -> None:
        self._surroundings = surroundings
        self._make = make
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._worlds: dict[str, World] = {}

    def of(self, kind: Kind, language: str) -> World:
        """The world of this kind, for this language."""
        name = f"{kind.name}-{language}" if kind.own else kind.name
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._worlds:
                told = kind.config(self._surroundings), kind.access(self._surroundings)
                self._worlds[name] = self._make(self._surroundings.root / name, kind, *told)
            return self._worlds[name]

    def close(self) -> None:
        """All at once, since each has to drain."""
        threads = [threading.Thread(target=world.close) for world in self._worlds.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
