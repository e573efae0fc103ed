"""Claims about logs that are followed through a front while their model goes to other hosts."""

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from pool_service_client import LogEnd, LogLines, PoolClient, Server
from tests.fleet.loopback import MODELS, LoopbackFleet, loopback_fleet

pytestmark = pytest.mark.process

LIMIT_S = 60.0
MODEL = MODELS[0]

Told = LogLines | LogEnd


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path) as one:
        yield one


@pytest.fixture
def pool(fleet: LoopbackFleet) -> Iterator[PoolClient]:
    with fleet.client() as client:
        yield client


@pytest.fixture
def followed(fleet: LoopbackFleet) -> Iterator[Queue[Told]]:
    """What is told of the log of a model from its first process on."""
    told: Queue[Told] = Queue()
    with fleet.client() as client:
        client.ensure(MODEL)
        log = client.logs(MODEL, follow=True)

        def read() -> None:
            for one in log:
                told.put(one)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield told
        log.close()
    thread.join(LIMIT_S)


def wait_for_lines_of(told: Queue[Told], server: Server) -> None:
    """Return when a server's first line has been told, which has its endpoint."""
    while True:
        one = told.get(timeout=LIMIT_S)
        if isinstance(one, LogLines) and any(server.endpoint in line for line in one.lines):
            assert one.generation == server.generation
            return


def other_than(fleet: LoopbackFleet, host: str) -> str:
    (other,) = set(fleet.members) - {host}
    return other


def test_a_log_is_followed_to_the_host_where_its_model_starts_next(
    fleet: LoopbackFleet, pool: PoolClient, followed: Queue[Told]
) -> None:
    first = pool.ensure(MODEL).server
    wait_for_lines_of(followed, first)
    pool.evict(MODEL)
    other = other_than(fleet, first.host)
    with PoolClient.connect(fleet.members[other].address) as member:
        there = member.ensure(MODEL).server
    assert there.host == other
    wait_for_lines_of(followed, there)


def test_a_log_is_followed_to_another_host_when_its_own_is_lost(
    fleet: LoopbackFleet, pool: PoolClient, followed: Queue[Told]
) -> None:
    first = pool.ensure(MODEL).server
    wait_for_lines_of(followed, first)
    fleet.members[first.host].process.kill()
    fleet.members[first.host].process.wait()
    again = pool.ensure(MODEL).server
    assert (again.host, again.generation) == (other_than(fleet, first.host), first.generation + 1)
    wait_for_lines_of(followed, again)
