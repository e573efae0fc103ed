"""Follows Watch over all services, replays it, and knows how each process came to its end."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from pool_service_client.connect import channel_options
from pool_service_client.errors import PoolError
from pool_service_client.status import Peer, error_of
from pool_service_client.v1 import pool_service_pb2 as pb
from pool_service_client.v1.pool_service_pb2_grpc import PoolServiceStub
from tools.soak.keeper import Keeper
from tools.soak.ledger import Ledger
from tools.soak.models import Model

LIVE: Final = frozenset({pb.SERVER_STATE_STARTING, pb.SERVER_STATE_READY, pb.SERVER_STATE_STOPPING})
NOT_BEGUN: Final = frozenset({pb.SERVER_STATE_QUEUED, pb.SERVER_STATE_BACKING_OFF})
PACE: Final = 0.05
REMEMBERED: Final = 2000
BESIDE: Final = frozenset({pb.SERVER_ROLE_SUCCESSOR, pb.SERVER_ROLE_SUPERSEDED})
"""Roles of a server beside which another of its model may run."""


@dataclass(slots=True)
class Life:
    """One process of a model. Times of time.monotonic, when this program was told of it.

    stopped_by_us: by SIGSTOP, if only for a moment; is_stopped: for good.
    """

    pid: int = 0
    endpoint: str = ""
    stopping_at: float | None = None
    cause: int = pb.EXIT_CAUSE_UNSPECIFIED
    killed_by_us: bool = False
    stopped_by_us: bool = False
    is_stopped: bool = False

    @property
    def leaves(self) -> bool:
        """Whether it was told to stop, or has ended."""
        return self.stopping_at is not None or self.cause != pb.EXIT_CAUSE_UNSPECIFIED


Key = tuple[str, int]
"""A model and a generation."""


def key_of(server: pb.Server) -> Key:
    """Return the key of a server."""
    return server.model, server.generation


class Watcher:
    """The replay of Watch, checked event by event."""

    def __init__(self, keeper: Keeper, known: list[Model], ledger: Ledger) -> None:
        self.servers: dict[Key, pb.Server] = {}
        self.lives: dict[Key, Life] = {}
        self._keeper = keeper
        self._models = {model.name: model for model in known}
        self._ledger = ledger
        self._revision = 0
        self._synced = False
        self._present: dict[Key, pb.Server] = {}
        self._generations: dict[str, int] = {}
        self._beside: set[int] = set()
        self._snapshots: deque[tuple[int, dict[Key, pb.Server]]] = deque(maxlen=REMEMBERED)

    async def run(self) -> None:
        """Follow until cancelled."""
        channel = grpc.aio.insecure_channel(self._keeper.address, options=channel_options())
        async with channel:
            stub = PoolServiceStub(channel)
            resume = False
            while True:
                opened = time.monotonic()
                request = pb.WatchRequest(after_revision=self._revision if resume else None)
                try:
                    async for response in stub.Watch(request):
                        self.receive(response, resumed=resume)
                    self._ledger.violation("Watch ended without an error")
                except grpc.aio.AioRpcError as failure:
                    error = error_of(failure, peer=Peer(self._keeper.address), timeout=None)
                    self._check_end(error, opened)
                    # Once after the last revision: a service that is new says COMPACTED.
                    resume = self._synced
                self._synced = False
                await asyncio.sleep(PACE)

    def life(self, server: pb.Server) -> Life:
        """What is known of the process of this server's generation."""
        return self.lives.setdefault(key_of(server), Life())

    @property
    def beside(self) -> frozenset[int]:
        """The pids of processes that Watch told to be beside their model's current one."""
        return frozenset(self._beside)

    def living(self) -> Iterator[pb.Server]:
        """The servers that have a process."""
        return (one for one in self.servers.values() if one.pid and one.state in LIVE)

    def began_after(self, revision: int) -> bool:
        """Whether no more is known of how the pool was at this revision, or never was."""
        return bool(self._snapshots) and revision < self._snapshots[0][0]

    async def replayed(self, revision: int, patience: float) -> dict[Key, pb.Server] | None:
        """The servers as they were at this revision; None if the watch does not get there."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            for at, servers in reversed(self._snapshots):
                if at == revision:
                    return servers
                if at < revision:
                    break
            await asyncio.sleep(PACE)
        return None

    def _check_end(self, error: PoolError, opened: float) -> None:
        if self._synced:
            self._ledger.count("watches ended by the service's end")
        away = self._keeper.was_away(opened, time.monotonic())
        if error.reason == "REVISION_COMPACTED":
            self._ledger.count("watches told REVISION_COMPACTED")
        elif error.reason not in {"SHUTTING_DOWN", "RECOVERING"} and not (
            away and error.code is grpc.StatusCode.UNAVAILABLE
        ):
            what = f"{error.code.name} {error.reason}: {error}"
            self._ledger.violation(f"Watch ended while the service was there: {what}")

    def receive(self, response: pb.WatchResponse, *, resumed: bool) -> None:
        """Take in one event of a stream; resumed: it goes on after the last revision."""
        kind = response.WhichOneof("event")
        if resumed and not self._synced:
            self._synced = True
            self._ledger.count("watches resumed")
        if not self._synced:
            self._receive_present(response, kind)
            return
        if response.revision != self._revision + 1:
            step = f"{self._revision} to {response.revision}"
            self._ledger.violation(f"Watch's revisions went from {step}")
        self._revision = response.revision
        self._ledger.count("changes watched")
        if kind == "removed":
            self._note(response.removed)
            self.servers.pop(key_of(response.removed), None)
        else:
            self._note(response.server)
            self.servers[key_of(response.server)] = response.server
            self._count_current(response.server.model)
        self._snapshots.append((self._revision, dict(self.servers)))

    def _receive_present(self, response: pb.WatchResponse, kind: str | None) -> None:
        if kind != "synced":
            self._present[key_of(response.server)] = response.server
            return
        if response.revision < self._revision:
            back = f"{self._revision} to {response.revision}"
            self._ledger.violation(f"a new service's revisions went back from {back}")
        self._synced, self._revision = True, response.revision
        self.servers, self._present = self._present, {}
        for server in self.servers.values():
            self._note_adopted(server)
            self._note(server)
        self._snapshots.append((self._revision, dict(self.servers)))

    def _note_adopted(self, server: pb.Server) -> None:
        """The process of an earlier service, at work under this one."""
        life = self.lives.get(key_of(server))
        if life is not None and life.pid and server.pid == life.pid:
            self._ledger.count("servers adopted")

    def _note(self, server: pb.Server) -> None:
        """What one state of a server tells of its process, and whether that can be."""
        name = pb.ServerState.Name(server.state).removeprefix("SERVER_STATE_")
        where = f"{server.model} #{server.generation}"
        self._ledger.event(f"{self._revision} {where} {name} {server.pid or ''} {server.detail}")
        if server.model not in self._models:
            self._ledger.violation(f"a process that no record told of: {server.pid}")
            return
        self._note_role(server, where)
        life = self.life(server)
        if server.pid and server.state in LIVE:
            self._note_process(life, server, where)
        if server.HasField("last_exit"):
            self._note_exit(server)

    def _note_role(self, server: pb.Server, where: str) -> None:
        """Of the processes that callers of a model get, none is of an earlier generation.

        A generation that has not begun is given up with its callers: FAILED is the one before.
        """
        if server.role in BESIDE:
            if server.pid not in self._beside:
                self._ledger.count("servers beside another")
                self._beside.add(server.pid)
            return
        if server.generation < self._generations.get(server.model, 0):
            self._ledger.violation(f"the generation of {where} went back")
        if server.state not in NOT_BEGUN:
            self._generations[server.model] = server.generation

    def _count_current(self, model: str) -> None:
        of_model = [one for one in self.servers.values() if one.model == model]
        current = [one.generation for one in of_model if one.role == pb.SERVER_ROLE_CURRENT]
        if len(current) > 1:
            self._ledger.violation(f"{model} has several current servers: {current}")

    def _note_process(self, life: Life, server: pb.Server, where: str) -> None:
        if life.pid and life.pid != server.pid:
            self._ledger.violation(f"{where} has pid {server.pid}, and had {life.pid}")
        elif not life.pid:
            self._ledger.count("processes started")
        life.pid = server.pid
        if life.endpoint and server.endpoint and life.endpoint != server.endpoint:
            self._ledger.violation(f"the endpoint of {where} changed")
        life.endpoint = server.endpoint or life.endpoint
        if server.state == pb.SERVER_STATE_STOPPING and life.stopping_at is None:
            life.stopping_at = time.monotonic()

    def _note_exit(self, server: pb.Server) -> None:
        """Every end has somebody who wanted it, or a reason that is known here."""
        end = server.last_exit
        model = server.model
        life = self.lives.setdefault((model, end.generation), Life())
        if life.cause != pb.EXIT_CAUSE_UNSPECIFIED:
            return
        life.cause = end.cause
        cause = pb.ExitCause.Name(end.cause).removeprefix("EXIT_CAUSE_")
        self._ledger.count(f"ends: {cause}")
        if not self._is_explained(life, model):
            what = f"{model} #{end.generation} ended as {cause} ({end.message})"
            self._ledger.violation(f"{what} without a reason")

    def _is_explained(self, life: Life, model: str) -> bool:
        if life.cause == pb.EXIT_CAUSE_CRASHED:
            return life.killed_by_us or self._models[model].mortal
        if life.cause in {pb.EXIT_CAUSE_WEDGED, pb.EXIT_CAUSE_START_TIMEOUT}:
            return life.stopped_by_us
        return life.cause in {pb.EXIT_CAUSE_EVICTED, pb.EXIT_CAUSE_IDLE}
