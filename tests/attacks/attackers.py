"""Defines who attacks by calls of the API, and which tries each of them may make."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from pool_service.access import tokens
from pool_service.access.authentication import Local, Rules
from pool_service.access.clients import Client, Clients
from pool_service.access.principal import CallerLimits, ModelPatterns, Principal, Scope
from pool_service.rpc.tls import Tls
from tests.attacks.scene import Scene, attacked
from tests.attacks.tries import TRIES, Goal
from tests.certificates import LOCAL, Authority, Files, Issued, uri

NOBODY = 65534
SAN = "spiffe://home/engine"
OF_SERVICE, OF_CALLERS, STRANGER = (Authority(name) for name in ("service", "callers", "stranger"))

SEEING = frozenset(
    {"list the servers", "list the models", "watch", "guess a name", "read who goes next"}
)
"""Tries that a caller with the scope read may make, if all models are allowed."""

STARTING = frozenset({"start a listed model", "hold a listed model", "take some memory"})
"""Tries that a caller with the scope use may make with its models."""

USING_ALL = STARTING | {
    "get the key of others' server",
    "get the key of others' server by a hold",
    "take more than half of the memory",
    "evict a server",
}
"""Tries that a caller with the scope use may make, if all models are allowed without a share."""

LOGS = frozenset({"read a log", "read the last lines of a log"})
"""Tries that a caller with logs may make, if all models are allowed."""

ERRORS = frozenset({"read the last lines in an error"})
"""Tries that a caller may make with logs and the right to start the model."""

OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
"""The option of a channel that shares no connection with others of this process."""

Metadata = tuple[tuple[str, str], ...] | None


@dataclass(frozen=True)
class Way:
    """How an attacker comes to the service: a channel to it, and what each call shows."""

    scene: Scene
    channel: grpc.aio.Channel
    metadata: Metadata = None


@dataclass(frozen=True)
class Attacker:
    """Somebody who calls. may: the tries that are no attack, as this caller has the right."""

    connect: Callable[[Path], AbstractAsyncContextManager[Way]]
    may: frozenset[str] = field(default_factory=frozenset)
    needs_root: bool = False


# --- other users of the machine -------------------------------------------------------------------


@contextmanager
def as_another_user() -> Iterator[None]:
    """Act as another user in the block, with all threads of this process."""
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@asynccontextmanager
async def _own_user(_directory: Path) -> AsyncIterator[Way]:
    async with attacked(Rules()) as scene:
        yield Way(scene, scene.service.channel)


def _another_user(local: Local) -> Callable[[Path], AbstractAsyncContextManager[Way]]:
    """Return a function that connects as another user by loopback. local: needs no token there."""

    @asynccontextmanager
    async def connect(_directory: Path) -> AsyncIterator[Way]:
        async with (
            attacked(Rules(local)) as scene,
            grpc.aio.insecure_channel(scene.service.address, options=OWN_CONNECTION) as channel,
        ):
            with as_another_user():
                await channel.channel_ready()
            yield Way(scene, channel)

    return connect


def _another_user_at_the_socket(mode: int) -> Callable[[Path], AbstractAsyncContextManager[Way]]:
    """Return a function that connects as another user by the socket.

    mode: of the socket; 0: as it is.
    """

    @asynccontextmanager
    async def connect(directory: Path) -> AsyncIterator[Way]:
        # The socket's own mode is what counts, as the directory lets everybody pass.
        os.chmod(directory, 0o755)  # noqa: PTH101  # not a method of Path, in a coroutine
        socket = directory / "s"
        async with (
            attacked(Rules(), f"unix:{socket}") as scene,
            grpc.aio.insecure_channel(scene.service.address, options=OWN_CONNECTION) as channel,
        ):
            if mode:
                os.chmod(socket, mode)  # noqa: PTH101
            with as_another_user():
                yield Way(scene, channel)

    return connect


# --- hosts on the network -------------------------------------------------------------------------


def _on_the_network(
    shown: Issued | None, trusted: bytes | None = None
) -> Callable[[Path], AbstractAsyncContextManager[Way]]:
    """Return a function that connects as another host, which shows a certificate or none.

    trusted: the certificate of the authority of callers.
    """
    engine = Principal(
        "engine", Scope.USE, models=ModelPatterns(("mine*",)), limits=CallerLimits(memory_share=0.5)
    )
    rules = Rules(clients=Clients([Client(engine, sans=frozenset({SAN}))]))

    @asynccontextmanager
    async def connect(_directory: Path) -> AsyncIterator[Way]:
        files = Files(OF_SERVICE.issue(*LOCAL), client_ca=trusted)
        async with attacked(rules, "0.0.0.0:0", Tls(files, ())) as scene:
            key, chain = (shown.key, shown.chain) if shown else (None, None)
            credentials = grpc.ssl_channel_credentials(OF_SERVICE.certificate, key, chain)
            address = f"localhost:{scene.service.address.rpartition(':')[2]}"
            async with grpc.aio.secure_channel(address, credentials) as channel:
                yield Way(scene, channel)

    return connect


# --- stolen tokens --------------------------------------------------------------------------------


def _by_token(principal: Principal | None) -> Callable[[Path], AbstractAsyncContextManager[Way]]:
    """Return a function that connects and shows a token.

    principal: the token's; None: it is nobody's.
    """
    token = tokens.new_token()
    known = [Client(principal, tokens.digest(token))] if principal else []

    @asynccontextmanager
    async def connect(_directory: Path) -> AsyncIterator[Way]:
        async with attacked(Rules(Local.TOKEN, Clients(known))) as scene:
            yield Way(scene, scene.service.channel, (("authorization", f"Bearer {token}"),))

    return connect


def _of(
    scope: Scope, *, models: str = "*", logs: bool = False, memory_share: float = 1
) -> Callable[[Path], AbstractAsyncContextManager[Way]]:
    limits = CallerLimits(memory_share=memory_share)
    return _by_token(
        Principal("stolen", scope, logs=logs, models=ModelPatterns((models,)), limits=limits)
    )


OWN_USER = Attacker(_own_user, frozenset(TRIES))
"""The service's own user, who may make every try: each does what an attacker would like."""

LET_IN = {
    "another user, by loopback that is open to anyone": _another_user(Local.ANYONE),
    "another user, by a socket that is open to anyone": _another_user_at_the_socket(0o666),
}
"""Other users, with nothing in their way."""

ATTACKERS = {
    "another user, by loopback": Attacker(_another_user(Local.SAME_USER), needs_root=True),
    "another user, by the socket": Attacker(_another_user_at_the_socket(0), needs_root=True),
    "a host without a token": Attacker(_on_the_network(None)),
    "a host without a certificate": Attacker(_on_the_network(None, OF_CALLERS.certificate)),
    "a host with another authority's certificate": Attacker(
        _on_the_network(STRANGER.issue(uri(SAN)), OF_CALLERS.certificate)
    ),
    "a host with a certificate of nobody": Attacker(
        _on_the_network(OF_CALLERS.issue(uri("spiffe://home/other")), OF_CALLERS.certificate)
    ),
    "a host with an engine's certificate": Attacker(
        _on_the_network(OF_CALLERS.issue(uri(SAN)), OF_CALLERS.certificate), STARTING
    ),
    "a guessed token": Attacker(_by_token(None)),
    "a stolen token: read, some models": Attacker(_of(Scope.READ, models="mine*")),
    "a stolen token: read": Attacker(_of(Scope.READ), SEEING),
    "a stolen token: read, with logs, some models": Attacker(
        _of(Scope.READ, models="mine*", logs=True)
    ),
    "a stolen token: read, with logs": Attacker(_of(Scope.READ, logs=True), SEEING | LOGS),
    "a stolen token: use, some models": Attacker(
        _of(Scope.USE, models="mine*", memory_share=0.5), STARTING
    ),
    "a stolen token: admin": Attacker(
        _of(Scope.ADMIN),
        frozenset(TRIES) - LOGS - ERRORS,
    ),
    "a stolen token: use": Attacker(_of(Scope.USE), SEEING | USING_ALL),
    "a stolen token: use, with logs": Attacker(
        _of(Scope.USE, logs=True), SEEING | USING_ALL | LOGS | ERRORS
    ),
    "a stolen token: use, with logs, some models": Attacker(
        _of(Scope.USE, models="mine*", logs=True, memory_share=0.5), STARTING
    ),
    "a stolen token: admin, with logs": Attacker(_of(Scope.ADMIN, logs=True), frozenset(TRIES)),
}

NEEDS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="connects as another user")
CASES = [
    pytest.param(
        name, goal, id=f"{name}, {goal}", marks=[NEEDS_ROOT] if attacker.needs_root else []
    )
    for name, attacker in ATTACKERS.items()
    for goal in Goal
]
