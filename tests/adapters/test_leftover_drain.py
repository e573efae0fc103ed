"""How long the descendants of an exited process may finish their requests."""

import asyncio
import os
import secrets
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.process.leftover_drain import LeftoverRequests, pause_after
from pool_service.adapters.process.leftover_processes import ProcessTree
from pool_service.core.types import Identity
from tests.under_way import under_way

LONG = 1000.0


@pytest.mark.parametrize(
    ("waited", "drain_time", "pause"),
    [
        (0.0, LONG, 0.1),
        (3.0, LONG, 0.3),
        (100.0, LONG, 1.0),
        (100.0, 100.25, 0.25),
        (0.0, 0.05, 0.05),
        (101.0, 100.0, 0.0),
    ],
)
def test_the_longer_it_waits_the_less_often_it_looks(
    waited: float, drain_time: float, pause: float
) -> None:
    assert pause_after(waited, drain_time) == pytest.approx(pause)


@dataclass
class Requests:
    """What a process left behind, a real one; busy: what each look at it finds."""

    left: frozenset[Identity]
    tree: ProcessTree
    busy: list[bool] = field(default_factory=list)
    escalated: asyncio.Event = field(default_factory=asyncio.Event)
    looked: list[Collection[int]] = field(default_factory=list)

    async def drained(
        self, drain_time: float = LONG, left: frozenset[Identity] | None = None
    ) -> frozenset[Identity]:
        one = LeftoverRequests(self.tree, "", drain_time, self.escalated)
        one._is_busy = self.look  # type: ignore[method-assign]
        return await one.drain(self.left if left is None else left)

    def look(self, pids: Collection[int]) -> bool:
        self.looked.append(pids)
        return self.busy.pop(0)


@pytest.fixture
def requests() -> Iterator[Requests]:
    nonce = secrets.token_hex(16)
    with under_way({NONCE_VARIABLE: nonce}) as process:
        identity = identity_of(process.pid)
        assert identity is not None
        yield Requests(frozenset({identity}), ProcessTree(None, nonce))
        process.kill()


async def test_what_is_busy_is_waited_for_and_that_is_logged_once(requests: Requests) -> None:
    requests.busy = [True, True, False]
    with capture_logs() as logs:
        assert await requests.drained() == requests.left
    pids = [one.pid for one in requests.left]
    assert requests.looked == [pids] * 3
    assert [line["pids"] for line in logs] == [pids]


async def test_what_is_not_busy_is_not_waited_for(requests: Requests) -> None:
    requests.busy = [False]
    with capture_logs() as logs:
        assert await requests.drained() == requests.left
    assert logs == []


async def test_of_what_has_ended_nobody_is_waited_for(requests: Requests) -> None:
    assert await requests.drained(left=frozenset()) == frozenset()
    requests.busy = [True]
    (identity,) = requests.left
    os.kill(identity.pid, 9)
    assert await requests.drained() == frozenset()


@pytest.mark.parametrize("why", ["no time", "escalated"])
async def test_without_time_for_it_nobody_is_asked(requests: Requests, why: str) -> None:
    if why == "escalated":
        requests.escalated.set()
    assert await requests.drained(LONG if why == "escalated" else 0.0) == requests.left
    assert requests.looked == []


async def test_the_wait_ends_with_its_time_or_when_it_is_escalated(requests: Requests) -> None:
    requests.busy = [True] * 9
    assert await requests.drained(0.05) == requests.left
    requests.looked.clear()
    requests.busy = [True]
    waiting = asyncio.create_task(requests.drained())
    while not requests.looked:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.001)
    requests.escalated.set()
    assert await waiting == requests.left


def test_a_server_without_clients_is_not_busy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"http://127.0.0.1:{server.getsockname()[1]}"
        one = LeftoverRequests(ProcessTree(None, "n"), endpoint, LONG, asyncio.Event())
        assert not one._is_busy([os.getpid()])
        with socket.create_connection(server.getsockname()):
            assert one._is_busy([]), "the client is none of its own"


def test_what_cannot_be_seen_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pool_service.adapters.process.leftover_drain.has_clients", lambda *_: None)
    one = LeftoverRequests(ProcessTree(None, "n"), "", LONG, asyncio.Event())
    assert one._is_busy([])
