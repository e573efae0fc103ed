"""Claims about clients of several addresses."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from pool_service_client import (
    AsyncPoolClient,
    DeadlineExceeded,
    PoolClient,
    PoolUnavailable,
    RetryPolicy,
    connect,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Refusal, Script, Stay, held, ready, running, synced

ONCE = RetryPolicy(attempts=1)
ENSURED = pb.EnsureResponse(server=ready())


@contextmanager
def nobody() -> Iterator[str]:
    """An address where a connection is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def second() -> Iterator[Script]:
    with contextmanager(running)() as script:
        script.answer("Ensure", ENSURED)
        script.answer("Hold", held(), Stay())
        script.answer("Watch", synced(7), Stay())
        yield script


@pytest.fixture
def several(second: Script) -> Iterator[str]:
    with nobody() as away:
        yield f"{away},{second.address}"


def test_no_attempt_is_counted_before_all_addresses_have_failed(several: str) -> None:
    with PoolClient.connect(several, retry=ONCE) as pool:
        assert pool.ensure("m").server.pid == 4711


@pytest.mark.parametrize("kind", ["watch", "hold", "progress"])
def test_the_first_call_may_be_of_any_kind(several: str, kind: str) -> None:
    with PoolClient.connect(several, retry=ONCE) as pool:
        if kind == "watch":
            assert next(pool.watch()).revision == 7
        elif kind == "hold":
            with pool.hold("m") as hold:
                assert hold.ready().pid == 4711
        else:
            assert pool.ensure("m", on_progress=lambda _: None).server.pid == 4711


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up addresses from which nothing comes soon."""
    monkeypatch.setattr(connect, "CONNECT_TIMEOUT_MS", 300)


@pytest.mark.usefixtures("hasty")
def test_an_address_from_which_nothing_comes_is_given_up_after_a_while(second: Script) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        both = f"127.0.0.1:{silent.getsockname()[1]},{second.address}"
        with PoolClient.connect(both) as pool:
            # Less than gRPC takes by default. On a busy machine the other may take long, too.
            assert pool.ensure("m", timeout=15).server.pid == 4711


async def begin_at_second(addresses: str) -> None:
    """Call and hold by the asyncio client, whose first call is answered at the second address."""
    async with AsyncPoolClient.connect(addresses, retry=ONCE) as pool:
        assert (await pool.ensure("m")).server.pid == 4711
    async with AsyncPoolClient.connect(addresses, retry=ONCE) as pool, pool.hold("m") as hold:
        assert (await hold.ready()).pid == 4711


async def test_the_same_holds_of_the_asyncio_client(several: str) -> None:
    await begin_at_second(several)


def test_a_failure_that_another_address_cannot_help_is_none_of_the_address(
    several: str, second: Script
) -> None:
    with PoolClient.connect(several, retry=ONCE) as pool:
        pool.ensure("m")
        second.answer("List", Refusal(grpc.StatusCode.INTERNAL, "a bug"))
        with pytest.raises(Exception, match="a bug"):
            pool.list()
        assert len(second.asked["List"]) == 1


def test_if_all_addresses_fail_the_call_has_failed_once() -> None:
    with (
        nobody() as one,
        nobody() as other,
        PoolClient.connect(f"{one},{other}", retry=ONCE) as pool,
        pytest.raises(PoolUnavailable, match=f"{one},{other}"),
    ):
        pool.list()


def test_when_the_present_one_goes_calls_and_holds_go_on_at_the_next(second: Script) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(contextmanager(running)())
        first.answer("Hold", held(pid=4710), Stay())
        first.answer("Ensure", pb.EnsureResponse(server=ready(pid=4710)))
        both = f"{first.address},{second.address}"
        with PoolClient.connect(both, retry=ONCE) as pool, pool.hold("m") as hold:
            assert next(hold).pid == pool.ensure("m").server.pid == 4710
            stack.close()
            assert next(hold).pid == pool.ensure("m").server.pid == 4711


@pytest.fixture
def dropping(service: Script, second: Script) -> str:
    """Two addresses, of which the first drops each call."""
    for rpc in ("Ensure", "Hold", "Watch"):
        service.answer(rpc, Refusal(grpc.StatusCode.CANCELLED, "CANCELLED"))
    return f"{service.address},{second.address}"


@pytest.mark.parametrize("kind", ["call", "watch", "hold", "progress"])
def test_what_the_service_drops_is_begun_at_the_next_address(dropping: str, kind: str) -> None:
    with PoolClient.connect(dropping, retry=ONCE) as pool:
        if kind == "watch":
            assert next(pool.watch()).revision == 7
        elif kind == "hold":
            with pool.hold("m") as hold:
                assert hold.ready().pid == 4711
        else:
            told = None if kind == "call" else lambda _: None
            assert pool.ensure("m", on_progress=told).server.pid == 4711


async def test_the_asyncio_client_begins_it_there_too(dropping: str) -> None:
    await begin_at_second(dropping)


def test_what_its_caller_gives_up_is_no_failure_of_the_address(
    service: Script, second: Script
) -> None:
    service.answer("Hold", held(pid=4710), Stay())
    service.answer("Ensure", pb.EnsureResponse(server=ready(pid=4710)))
    with PoolClient.connect(f"{service.address},{second.address}", retry=ONCE) as pool:
        with pool.hold("m") as hold:
            assert hold.ready().pid == 4710
        assert not list(hold)
        assert pool.ensure("m").server.pid == 4710


async def test_nor_what_a_task_gives_up(service: Script, second: Script) -> None:
    service.answer("Hold", held(pid=4710), Stay())
    service.answer("List", Stay())
    service.answer("Ensure", pb.EnsureResponse(server=ready(pid=4710)))
    both = f"{service.address},{second.address}"
    async with AsyncPoolClient.connect(both, retry=ONCE) as pool:
        async with pool.hold("m") as hold:
            assert (await hold.ready()).pid == 4710
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.list(), 0.5)
        assert (await pool.ensure("m")).server.pid == 4710


def test_the_next_check_of_a_server_goes_on_too(service: Script, second: Script) -> None:
    service.answer("Hold", held(), Stay())
    service.answer("Get", Refusal(grpc.StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN"))
    second.answer("Get", pb.GetResponse(server=ready(), answers=True))
    with (
        PoolClient.connect(f"{service.address},{second.address}") as pool,
        pool.hold("m") as hold,
    ):
        for _ in range(2):
            hold.ready(after=hold.ready())
        assert len(second.asked["Get"]) == 1


def test_the_cause_of_a_timeout_is_the_failure_at_another_address(second: Script) -> None:
    second.answer("List", Stay())
    with (
        nobody() as away,
        PoolClient.connect(f"{away},{second.address}") as pool,
        pytest.raises(DeadlineExceeded) as late,
    ):
        pool.list(timeout=5)
    assert isinstance(late.value.__cause__, PoolUnavailable)
