"""A fleet of three members on hosts of their own, and one front on another."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import grpc

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import PoolClient, RetryPolicy, Server
from tests.fleet.hosts.fronts import SOCKET, Front, FrontSettings, start_front
from tests.fleet.hosts.members import FRONT, Member, Members, MemberSettings
from tests.fleet.hosts.network import Host, Network
from tests.fleet.hosts.watching import Watching

HOSTS = ("a", "b", "c")
MODELS = tuple(f"org/m{number}" for number in range(9))

LIMIT_S = 120.0
"""Longer than anything takes that works, on a machine that is busy with other things."""

LOST_AFTER_S = 3.0
"""The default of a front's `lost_after`."""

POLL_S = 0.02

ANOTHER = "org/another"
"""A model beyond MODELS, for which every host has room."""

SETTINGS = MemberSettings(
    models=dict.fromkeys((*MODELS, ANOTHER), "100 MiB"), client="fleet = true"
)


@dataclass(frozen=True, slots=True)
class Setup:
    """How a fleet is configured.

    members: the settings of each member. member_keys: further lines of their section [fleet];
    front_keys: of the front's section [front]. shifts: seconds by which clocks of hosts are wrong.
    prepare: called with each host, before its member is started.
    """

    members: MemberSettings = SETTINGS
    member_keys: str = ""
    front_keys: str = ""
    shifts: Mapping[str, int] = field(default_factory=dict)
    prepare: Callable[[Members, Host], None] = lambda _members, _host: None

    def of(self, host: Host) -> MemberSettings:
        """Return the settings of the member on a host."""
        section = f'[fleet]\nname = "{host.name}"\nadvertise = "{host.address}"\n'
        return replace(self.members, more=f"{section}{self.member_keys}\n{self.members.more}")


class Fleet:
    """A fleet that is SERVING. client: of its front."""

    def __init__(self, network: Network, directory: Path, setup: Setup) -> None:
        self.network = network
        self._setup = setup
        self.made = Members(directory)
        self.members: dict[str, Member] = {}
        for name in HOSTS:
            self._add(name)
            setup.prepare(self.made, network.hosts[name])
            self.start_member(name)
        self._add("front")
        self.front = self._started_front()
        self.client = self.front.client()
        self._channel = grpc.insecure_channel(f"unix:{self.front.host.directory / SOCKET}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._channel.close()

    def _add(self, name: str) -> None:
        host = self.network.add(name)
        if name in self._setup.shifts:
            host.shift_clock(self._setup.shifts[name])

    # --- what happens to it ---------------------------------------------------------------

    def start_member(self, name: str, *arguments: str) -> Member:
        """Start the member of a host; also again, as with "--replace"."""
        host = self.network.hosts[name]
        self.members[name] = self.made.start(host, self._setup.of(host), *arguments)
        return self.members[name]

    def restart_front(self) -> None:
        """Kill the front and start another one in its place."""
        self.front.process.kill()
        self.front.process.wait()
        self.front = self._started_front()

    def _started_front(self) -> Front:
        credentials = self.made.credentials[FRONT]
        members = list(self.members.values())
        settings = FrontSettings(lines=self._setup.front_keys)
        return start_front(self.network.hosts["front"], members, credentials, settings)

    # --- what its callers do --------------------------------------------------------------

    def once(self) -> PoolClient:
        """Return a client that tells of each failure instead of trying again; close it."""
        address = f"unix:{self.front.host.directory / SOCKET}"
        return PoolClient.connect(address, retry=RetryPolicy(attempts=1))

    def ensure(self, model: str) -> Server:
        """Ask the front for a model."""
        return self.client.ensure(model, timeout=LIMIT_S).server

    def ensure_all(self, models: Iterable[str] = MODELS) -> dict[str, Server]:
        """Ask the front for models at once; return the server of each."""
        return at_once(self.ensure, list(models))

    def ensure_elsewhere(self, model: str, lost: str) -> Server:
        """Ask the front for a model again and again, until it is on another host than that."""
        found: list[Server] = []

        def is_elsewhere() -> bool:
            found.append(self.ensure(model))
            return found[-1].host != lost

        until(is_elsewhere)
        return found[-1]

    # --- what its front tells -------------------------------------------------------------

    def told(self) -> pb.ListResponse:
        """Return what the front lists now."""
        told: pb.ListResponse = pb_grpc.PoolServiceStub(self._channel).List(
            pb.ListRequest(page_size=1000), timeout=LIMIT_S, wait_for_ready=True
        )
        return told

    def hosts_of(self, model: str) -> list[str]:
        """Return the hosts of the servers of a model that the front lists."""
        return [server.host for server in self.told().servers if server.model == model]

    def holds_of(self, model: str) -> int:
        """Return how many hold the server of a model; 0 if it has none."""
        server = self.client.get(model, timeout=LIMIT_S).server
        return server.holds if server is not None else 0

    def notice_of(self, host: str) -> str:
        """Return what the front says of a member that works less well than it should, if any."""
        notices = self.told().notices
        return next((one for one in notices if one.startswith(f"{host}: ")), "")

    def sees(self, host: str) -> bool:
        """Return whether the front sees a member."""
        return not self.notice_of(host)

    def watching(self) -> Watching:
        """Return a Watch of the front."""
        return Watching(self._channel)


def at_once(ask: Callable[[str], Server], models: Sequence[str]) -> dict[str, Server]:
    """Ask for models in as many threads; return the server of each."""
    with ThreadPoolExecutor(len(models)) as pool:
        return dict(zip(models, pool.map(ask, models), strict=True))


def until(condition: Callable[[], bool]) -> float:
    """Wait until a condition holds; return for how many seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < LIMIT_S, "it does not become true"
        time.sleep(POLL_S)
    return time.monotonic() - began


def identity(server: Server) -> tuple[str, int, int, str]:
    """Return what tells a server from all others of a fleet."""
    return server.host, server.generation, server.pid, server.endpoint
