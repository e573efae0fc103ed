"""The services that scenarios are played at: real ones, with the fake server as their runtime."""

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import starmap
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pool_service.access.tokens import digest, new_token
from pool_service_client import (
    PoolClient,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerRole,
    Synced,
)
from tests.conformance.homes import IN_RUNTIME, IN_STATE
from tests.conformance.languages import LANGUAGES
from tests.conformance.runners import LIMIT
from tests.fake_hub import Hub
from tests.service.conftest import FAKE, FAKE_RUNTIME
from tools.demo.service import RunningService, running

# Whoever asks a server for anything shows its key.
RUNTIME = f"""{FAKE_RUNTIME}environment = {{ FAKE_API_KEY = "{{api_key}}" }}
"""

HUB_FILES: Mapping[str, bytes] = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": b"w" * 200_000,
}
HUB_BYTES = sum(map(len, HUB_FILES.values()))

# Deaths are forgiven quickly and refusals forgotten at once, since scenarios die a lot.
QUICK = """
[service]
failure_memory = 0
backoff_initial = "10ms"
crash_limit = 2
history = 100000
recovery_timeout = 20
standby = 0
[memory]
budget = "none"
reserve = "0MB"
[defaults]
grace_period = 0
drain_timeout = "20s"
"""

# Room for one of the two, and for one that waits.
TIGHT = """
[service]
standby = 0
[memory]
budget = "100 MB"
reserve = "0MB"
queue_limit = 1
queue_timeout = "1h"
[defaults]
grace_period = 0
"""
TIGHT_MODELS = """
[models.first]
expected_memory = "80 MB"
[models.second]
expected_memory = "80 MB"
[models.third]
expected_memory = "80 MB"
[models.vast]
runtime_model = "{root}/vast"
"""
VAST_BYTES = 900_000_000

LISTED = QUICK.replace("[service]\n", "[service]\nonly_listed = true\n")
LISTED_RUNTIMES = """
[runtimes.missing]
command = ['/nonexistent/runtime', '{{runtime_model}}', '--port', '{{port}}']
[runtimes.hub]
command = ['{root}/vllm-mlx', 'serve', '{{runtime_model}}', '--port', '{{port}}']
[runtimes.hub.environment]
"""
# For each language its own, so that none meets another's. `described` is started by no scenario:
# what a start leaves behind (a footprint, runs) would depend on which scenarios came before.
LISTED_MODELS = """
[groups."{who}"]
limit = 3
[models."{who}/one"]
aliases = ["{who}/uno", "{who}/eins"]
pinned = true
[models."{who}/described"]
runtime_model = "x?tokens=1"
aliases = ["{who}/told", "{who}/pictured"]
groups = ["{who}"]
pinned = true
expected_memory = "7 MB"
[models."{who}/never"]
runtime_model = "x?bind=never"
start_timeout = "300ms"
probe_timeout = "200ms"
[models."{who}/stubborn"]
runtime_model = "x?ignore=term,int"
drain_timeout = "50ms"
stop_timeout = "50ms"
[models."{who}/missing"]
runtime = "missing"
[models."{who}/code"]
runtime_model = "{root}/code"
[models."{who}/hub"]
runtime = "hub"
runtime_model = "org/name"
[models."{who}/pulled"]
runtime = "hub"
runtime_model = "org/name"
[models."{who}/absent"]
runtime = "hub"
runtime_model = "org/absent"
[models."{who}/broken"]
runtime = "hub"
runtime_model = "org/broken"
"""

# Nobody is let in without a token, not even the user of the service.
LOCKED = """
[auth]
local = "token"
"""
CLIENT = """
[clients.{name}]
token_sha256 = "{digest}"
scope = "{scope}"
"""
TLS = """
[tls]
cert = "{root}/secrets/service.pem"
key = "{root}/secrets/service.key"
"""
CLIENT_CA = """
client_ca = "{root}/secrets/callers.pem"
[clients.engine]
san = "spiffe://home/engine"
scope = "use"
"""
# What a token of scope `use` may start is listed.
LOCKED_MODELS = """
[models."{who}/one"]
[models."{who}/two"]
"""
FAR = "0.0.0.0:0"
TOKENS: Mapping[str, str] = {scope: new_token() for scope in ("read", "use", "admin")}
"""A token of each scope, which GUARDED knows."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What worlds are built from. root: a directory for all of them."""

    root: Path
    hub: Hub


def _quick(_: Surroundings) -> str:
    return QUICK


def _tight(surroundings: Surroundings) -> str:
    vast = surroundings.root / "vast"
    vast.mkdir(exist_ok=True)
    for name, content in HUB_FILES.items():
        (vast / name).write_bytes(content)
    # A hole: it takes no room on the disk.
    os.truncate(vast / "model.safetensors", VAST_BYTES)
    return TIGHT + TIGHT_MODELS.format(root=surroundings.root)


def _listed(surroundings: Surroundings) -> str:
    root, hub = surroundings.root, surroundings.hub
    program = root / "vllm-mlx"
    run = f"import runpy\nrunpy.run_path({str(FAKE)!r}, run_name='__main__')\n"
    program.write_text(f"#!{sys.executable}\n{run}")
    program.chmod(0o755)
    code = root / "code"
    code.mkdir()
    (code / "config.json").write_text('{"model_file": "own.py"}')
    (code / "own.py").touch()
    hub.refusals["broken"] = (503, "")
    variables = "".join(
        f"{name} = '{value}'\n" for name, value in hub.environment(root / "hub").items()
    )
    models = "".join(LISTED_MODELS.format(who=one.key, root=root) for one in LANGUAGES)
    return LISTED + LISTED_RUNTIMES.format(root=root) + variables + models


def _guarded(_: Surroundings) -> str:
    models = "".join(LOCKED_MODELS.format(who=one.key) for one in LANGUAGES)
    return QUICK + LOCKED + models + "".join(starmap(_client, TOKENS.items()))


def _encrypted(surroundings: Surroundings) -> str:
    return _guarded(surroundings) + TLS.format(root=surroundings.root)


def _certified(surroundings: Surroundings) -> str:
    return _encrypted(surroundings) + CLIENT_CA.format(root=surroundings.root)


def _client(scope: str, token: str) -> str:
    """The section of a client that is named after its scope."""
    known_by = digest(token)
    assert known_by is not None
    return CLIENT.format(name=scope, digest=known_by.hex(), scope=scope)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of world.

    own: each language has one, since it is harmed or must be alone; token: the conductor's;
    sockets: where it listens besides, below the directory of all worlds; is_far: other machines
    reach it, too.
    """

    name: str
    config: Callable[[Surroundings], str]
    own: bool = False
    token: str | None = None
    sockets: tuple[str, ...] = ()
    is_far: bool = False


PLAIN = Kind("plain", _quick, sockets=(IN_RUNTIME, IN_STATE))
"""For models of any name; no room is short, and nothing is held against the dead."""
CATALOGUE = Kind("catalogue", _listed)
"""Serves only what it lists."""
GUARDED = Kind("guarded", _guarded, token=TOKENS["admin"])
"""As PLAIN, but each caller needs a token, and models are listed."""
ENCRYPTED = Kind("encrypted", _encrypted, token=TOKENS["admin"], is_far=True)
"""As GUARDED, and by TLS, too."""
CERTIFIED = Kind("certified", _certified, token=TOKENS["admin"], is_far=True)
"""As ENCRYPTED, and by TLS each caller shows a certificate."""
ALONE = Kind("alone", _quick, own=True)
"""As PLAIN, and nobody else is there."""
SMALL = Kind("small", _tight, own=True)
"""Room for one model, and for one that waits."""


@dataclass(slots=True)
class World:
    """A service, and the next ones in its place.

    address, socket: stay the same. pool: the conductor's own client, which knows the truth and
    shows the token.
    """

    directory: Path
    kind: Kind
    config: str
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
        self.configure()
        self.start()
        connecting = PoolClient.connect(self.address, token=self.kind.token)
        self.pool = self._stack.enter_context(connecting)

    def configure(self, more: str = "", old: str = "", new: str = "") -> None:
        """Write its configuration, and this besides or instead; the service is not told."""
        self._file.write_text((RUNTIME + self.config).replace(old, new) + more)

    @property
    def _file(self) -> Path:
        return self.directory / "config.toml"

    def start(self) -> None:
        """The next service, when it is SERVING."""
        self._count += 1
        self.now = self._stack.enter_context(
            running(
                self.directory / "state",
                [
                    self.address,
                    self.socket,
                    *self._more_sockets,
                    *([FAR] if self.kind.is_far else []),
                ],
                ["--config", str(self._file)],
                log=self.directory / f"service-{self._count}.log",
            )
        )
        self.address = self.now.address

    @property
    def encrypted(self) -> str:
        """Where a client speaks TLS, as its certificate names it; empty: nowhere."""
        port = self.now.addresses[-1].rpartition(":")[2]
        return f"localhost:{port}" if self.kind.is_far else ""

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
        if self._file.read_text() != RUNTIME + self.config:
            self.configure()
            self.pool.reload()
        for server in self.pool.list():
            if server.model.startswith(prefix):
                self.pool.evict(server.model, force=True)

    def close(self) -> None:
        """Stop it and its servers."""
        self._stack.close()


def _by_model(servers: Iterable[Server]) -> dict[str, Server]:
    """Return the servers that callers get, by their models."""
    return {one.model: one for one in servers if one.role is ServerRole.CURRENT}


class Worlds:
    """Each is started when it is first asked for, and stays until the end."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
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
                config = kind.config(self._surroundings)
                self._worlds[name] = World(self._surroundings.root / name, kind, config)
            return self._worlds[name]

    def close(self) -> None:
        """All at once, since each has to drain."""
        threads = [threading.Thread(target=world.close) for world in self._worlds.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
