"""Claims about clients of several addresses."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc
import pytest

from pool_service_client import AsyncPoolClient, PoolClient, PoolUnavailable, RetryPolicy
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


async def test_the_same_holds_of_the_asyncio_client(several: str) -> None:
    async with AsyncPoolClient.connect(several, retry=ONCE) as pool:
        assert (await pool.ensure("m")).server.pid == 4711
    async with AsyncPoolClient.connect(several, retry=ONCE) as pool, pool.hold("m") as hold:
        assert (await hold.ready()).pid == 4711


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
