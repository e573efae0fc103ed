"""Runs the service that is attacked: with models that some may use, and models of others."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
from google.protobuf.message import Message

from pool_service.access.authentication import Rules
from pool_service.core.errors import PoolError
from pool_service.core.types import Diagnosis, ExitReport
from pool_service.rpc.server import SERVICE
from pool_service.rpc.tls import Tls
from pool_service.v1 import pool_service_pb2 as pb
from tests.pool.running import DEFAULTS, LIMITS
from tests.rpc.serving import Service, serving
from tests.world import NEVER, Script

MINE = ("mine-a", "mine-b", "mine-c")
"""The models that every attacker with a right to use models may use."""

SECRET = "secret"
"""A model of others, which is READY and pinned, and has written a prompt."""

IDLE = "secret-idle"
"""A model of others, which is READY and not in use."""

BROKEN = "secret-broken"
"""A model of others, which has died with a prompt in its last lines."""

UNLISTED = "/home/somebody/model"
PROMPT = "tell me a story"
DIED = ExitReport(1, None, Diagnosis.CRASHED, "The runtime exited with code 1", (PROMPT,))
BUDGET_BYTES = 10
MODEL_BYTES = 3
ANSWER_TIMEOUT_S = 60.0
METHODS = pb.DESCRIPTOR.services_by_name["PoolService"].methods_by_name


@dataclass
class Scene:
    """The service under attack."""

    service: Service
    answers: list[bytes] = field(default_factory=list)
    """The answers to the attacker since the last try began."""
    errors: list[bytes] = field(default_factory=list)
    """The errors that it got since then, with their details."""
    calls_before: int = 0
    """The number of calls of ports before the attack."""

    @property
    def loaded(self) -> set[str]:
        """The files that were loaded since the attack began."""
        return {
            one.detail
            for one in self.service.world.calls[self.calls_before :]
            if one.name == "spawn"
        }

    @property
    def was_disturbed(self) -> bool:
        """Whether a server of others is not as it was."""
        servers = {one.model: one for one in self.service.pool.page(None, 99)}
        there = all(one in servers and servers[one].generation == 1 for one in (SECRET, IDLE))
        return not there or not servers[SECRET].settings.pinned

    def has_done(self, method: str) -> bool:
        """Return whether a call has changed something, by the events."""
        calls = self.service.world.events.of("call")
        return any((one["method"], one["code"]) == (method, "OK") for one in calls)

    def forget(self) -> None:
        """Forget what the attacker was told by earlier tries."""
        self.answers.clear()
        self.errors.clear()

    async def ask(
        self,
        channel: grpc.aio.Channel,
        request: Message,
        metadata: tuple[tuple[str, str], ...] | None,
    ) -> None:
        """Make a call for the attacker, and keep all that it is told."""
        try:
            async for answer in _answers(channel, request, metadata):
                self.answers.append(answer)
        except grpc.aio.AioRpcError as error:
            self.errors.append((error.details() or "").encode())
            for _, value in error.trailing_metadata() or ():
                self.errors.append(value if isinstance(value, bytes) else str(value).encode())


@asynccontextmanager
async def attacked(
    rules: Rules, address: str = "127.0.0.1:0", tls: Tls | None = None
) -> AsyncIterator[Scene]:
    """Run the service until the end of an attack."""
    listed = (*MINE, SECRET, IDLE, BROKEN)
    models = {name: replace(DEFAULTS, runtime_model=name, grace_period=0.0) for name in listed}
    limits = replace(LIMITS, memory_budget=BUDGET_BYTES)
    async with serving(
        models=models, limits=limits, rules=rules, address=address, tls=tls
    ) as service:
        world, pool = service.world, service.pool
        for name in MINE:
            world.script(name, Script(load=0.0, needs=MODEL_BYTES, takes=MODEL_BYTES))
        world.script(BROKEN, Script(load=NEVER, dies=0.0, report=DIED))
        world.script(UNLISTED, Script(load=0.0))
        for name in (SECRET, IDLE, BROKEN):
            with suppress(PoolError):
                await pool.ensure(name)
        await pool.pin(SECRET, pinned=True)
        world.logs.write(SECRET, 1, PROMPT)
        yield Scene(service, calls_before=len(world.calls))


async def _answers(
    channel: grpc.aio.Channel, request: Message, metadata: tuple[tuple[str, str], ...] | None
) -> AsyncIterator[bytes]:
    """Yield the answers to a call; of a stream those until it has told the present state."""
    name = type(request).__name__.removesuffix("Request")
    url = f"/{SERVICE}/{name}"
    serialize = type(request).SerializeToString
    if not METHODS[name].server_streaming:
        unary: Any = channel.unary_unary(url, serialize)
        yield await unary(request, metadata=metadata, timeout=ANSWER_TIMEOUT_S)
        return
    many: Any = channel.unary_stream(url, serialize)
    stream = many(request, metadata=metadata, timeout=ANSWER_TIMEOUT_S)
    while (answer := await stream.read()) is not grpc.aio.EOF:
        yield answer
        if _is_all(name, answer):
            stream.cancel()
            return


def _is_all(name: str, answer: bytes) -> bool:
    """Return whether a stream has told all for now with this answer."""
    if name == "Watch":
        return pb.WatchResponse.FromString(answer).HasField("synced")
    ready = pb.SERVER_STATE_READY
    return name == "Hold" and pb.HoldResponse.FromString(answer).server.state == ready
