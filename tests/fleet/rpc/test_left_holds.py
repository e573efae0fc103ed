"""Claims about the holds that have left a host which was away, and is seen again."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from pool_service.fleet.rpc.forwarding import LET_END_S, Forwarding
from pool_service.v1 import pool_service_pb2 as pb

LIMIT_S = 60.0
HOST = "a"


class Link:
    """The link to a host, which ends a hold when the test lets it. fails: it does not."""

    host = HOST

    def __init__(self) -> None:
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.may_answer = asyncio.Event()
        self.fails = False

    async def unary(
        self, method: str, request: pb.EndHoldRequest, _call: bytes, _timeout: float
    ) -> None:
        assert method == "EndHold"
        self.ended.put_nowait(request.hold)
        await self.may_answer.wait()
        if self.fails:
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, nothing, nothing)


class AwayFleet:
    """What forwarding asks of a fleet whose host is away until the test says that it is seen."""

    followed_epoch = 1

    def __init__(self, link: Link) -> None:
        self.present: list[Link] = []
        self._link = link
        self.on_seen: Callable[[str], None] = lambda _: None

    def link(self, _host: str) -> Link:
        return self._link


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def forwarding(link: Link) -> Forwarding:
    """Return forwarding of which three holds have left the host."""
    fleet: Any = AwayFleet(link)
    leader: Any = None
    one = Forwarding(fleet, "front", leader)
    for name in ("first", "second", "third"):
        one._leave_behind(HOST, name)
    return one


async def test_a_hold_that_comes_back_while_others_are_ended_is_not_ended(
    forwarding: Forwarding, link: Link
) -> None:
    async with asyncio.timeout(LIMIT_S):
        forwarding._fleet.on_seen(HOST)
        assert await link.ended.get() == "first"
        forwarding._come_back(HOST, "second")
        link.may_answer.set()
        assert await link.ended.get() == "third"
        await asyncio.gather(*forwarding._ending)
    assert link.ended.empty()
    assert not forwarding._left_behind


async def test_holds_at_a_host_that_vanishes_again_are_ended_when_it_is_seen_next(
    forwarding: Forwarding, link: Link
) -> None:
    link.fails = True
    link.may_answer.set()
    async with asyncio.timeout(LIMIT_S):
        forwarding._fleet.on_seen(HOST)
        await asyncio.gather(*forwarding._ending)
        assert await link.ended.get() == "first"
        assert link.ended.empty()
        link.fails = False
        forwarding._fleet.on_seen(HOST)
        assert await link.ended.get() == "second"
        assert await link.ended.get() == "third"


@pytest.mark.looptime
async def test_an_eviction_waits_until_holds_have_ended_whose_callers_have_left(
    forwarding: Forwarding, link: Link
) -> None:
    forwarding._fleet.on_seen(HOST)
    waiting = asyncio.create_task(forwarding.let_holds_end())
    assert await link.ended.get() == "first"
    assert not waiting.done()
    link.may_answer.set()
    await waiting
    assert link.ended.qsize() == 2
    assert not forwarding._left_behind


@pytest.mark.looptime
async def test_an_eviction_does_not_wait_for_long_for_a_member_that_does_not_answer(
    forwarding: Forwarding,
) -> None:
    forwarding._fleet.on_seen(HOST)
    began = asyncio.get_running_loop().time()
    await forwarding.let_holds_end()
    assert asyncio.get_running_loop().time() - began == LET_END_S
