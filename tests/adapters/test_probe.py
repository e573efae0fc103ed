"""Claims about the proof of readiness: whose socket it was counts after the answer as well."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.sockets import ownership
from pool_service.core.types import EndpointState, Identity, LaunchPlan

TIMEOUT = 30.0


class Listeners:
    """Listeners of this very process at one port, the one after the other; each answers "ok".

    asked: which of them was asked for its health, in order; gives_way: the first is closed when it
    was asked, before it answers; comes_again: another one takes its place.
    """

    def __init__(self, *, gives_way: bool = False, comes_again: bool = False) -> None:
        self.asked: list[int] = []
        self.port = 0
        self._gives_way = gives_way
        self._comes_again = comes_again
        self._servers: list[asyncio.Server] = []
        self._spare: list[socket.socket] = []

    async def listen(self) -> None:
        number = len(self._servers)

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.asked.append(number)
            await reader.readuntil(b"\r\n\r\n")
            if number == 0 and self._gives_way:
                await self._give_way()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()
            await writer.wait_closed()

        self._servers.append(await asyncio.start_server(answer, "127.0.0.1", self.port))
        self.port = self._servers[-1].sockets[0].getsockname()[1]

    async def _give_way(self) -> None:
        descriptor = self._servers[0].sockets[0].fileno()
        self._servers[0].close()
        # What comes next gets the lowest descriptor that is free: not that of the closed one.
        while not self._spare or self._spare[-1].fileno() < descriptor:
            self._spare.append(socket.socket())
        if self._comes_again:
            await self.listen()

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for spare in self._spare:
            spare.close()


@asynccontextmanager
async def listening(**more: bool) -> AsyncIterator[Listeners]:
    the_listeners = Listeners(**more)
    await the_listeners.listen()
    try:
        yield the_listeners
    finally:
        the_listeners.close()


def me() -> Identity:
    identity = identity_of(os.getpid())
    assert identity is not None
    return identity


def plan(port: int) -> LaunchPlan:
    return LaunchPlan((), (), port, "/health", "served", "nonce")


async def test_a_listener_that_answers_healthy_and_stays_is_ready_at_its_first_answer() -> None:
    async with listening() as there:
        found = await HttpProbe().ready(me(), plan(there.port), TIMEOUT)
        assert found == f"http://127.0.0.1:{there.port}"
        assert there.asked == [0]


async def test_an_answer_does_not_count_whose_socket_was_replaced_before_it_was_read() -> None:
    async with listening(gives_way=True, comes_again=True) as there:
        found = await HttpProbe().ready(me(), plan(there.port), TIMEOUT)
        assert found == f"http://127.0.0.1:{there.port}"
        assert there.asked == [0, 1], "what came in its place is asked itself"


class Doubted:
    """Says that a stranger gets what is sent to the endpoint, as often as it is told."""

    def __init__(self, times: int) -> None:
        self._left = times

    def prove(self, identity: Identity, endpoint: str) -> EndpointState:
        self._left -= 1
        return EndpointState.LOST if self._left >= 0 else EndpointState.KEPT


async def test_an_answer_does_not_count_while_a_stranger_may_get_what_is_sent_there() -> None:
    async with listening() as there:
        probe: Any = HttpProbe()
        probe._ownership = Doubted(times=2)
        assert await probe.ready(me(), plan(there.port), TIMEOUT)
        assert there.asked == [0, 0, 0]


async def test_a_pulse_does_not_count_whose_listener_was_closed_before_it_was_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Where the system can be asked nothing quickly a proof holds for a while.
    monkeypatch.setattr(ownership, "FRESH_S", 0.0)
    async with listening(gives_way=True) as there:
        endpoint = f"http://127.0.0.1:{there.port}"
        result = await HttpProbe().check_liveness(me(), plan(there.port), endpoint, "", TIMEOUT)
        assert there.asked == [0]
        assert not result.listens
