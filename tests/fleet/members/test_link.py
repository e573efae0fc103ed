"""Claims about the link to a member whose answers do not come, over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from pool_service.fleet.core import events as ev
from pool_service.fleet.members.link import GrpcLink, Manner
from pool_service.fleet.members.security import Secure
from pool_service.fleet.ports import MemberLost
from pool_service.v1 import pool_service_pb2 as pb
from tests.fleet.members.scripted import (
    LIMIT_S,
    Fed,
    ScriptedMember,
    linked,
    listening,
    next_of,
)


@asynccontextmanager
async def followed(
    member: ScriptedMember, secure: Secure = lambda _host, _address: None
) -> AsyncIterator[tuple[GrpcLink, Fed]]:
    """Run a member, and follow it with few beats; yield the link, and the events that it feeds."""
    manner = Manner("front", lambda: 1, lambda: LIMIT_S, secure)
    async with listening(member) as port, linked(port, manner) as (link, fed):
        yield link, fed


async def all_until(fed: Fed, *last: type[ev.Event]) -> "list[ev.Event]":
    """Return what is fed up to an event of these kinds, with it."""
    told = [await fed.get()]
    while not isinstance(told[-1], last):
        told.append(await fed.get())
    return told


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no connection be given up on a machine that is busy."""
    monkeypatch.setattr("pool_service.fleet.members.link.CONNECT_TIMEOUT_S", LIMIT_S)


def kinds(told: "list[ev.Event]") -> "set[type[ev.Event]]":
    return {type(event) for event in told}


@pytest.mark.parametrize("is_connected", [False, True])
async def test_a_member_that_is_lost_during_a_beat_is_asked_again(*, is_connected: bool) -> None:
    member = ScriptedMember(answers=is_connected)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, fed):
        if is_connected:
            await next_of(fed, ev.MemberTold)
            member.answers = False
            link.beat_now()
            await member.beats.get()
        await member.beats.get()
        link.interrupt()
        member.answers = True
        await member.beats.get()
        await next_of(fed, ev.MemberTold)


@pytest.mark.usefixtures("patient")
async def test_a_member_that_is_slow_to_tell_its_models_is_seen_meanwhile() -> None:
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    member.named.clear()
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, fed):
        assert kinds(await all_until(fed, ev.MemberTold)) == {ev.BeatAnswered, ev.MemberTold}
        await member.beats.get()
        link.beat_now()
        await member.beats.get()
        member.named.set()
        told = await all_until(fed, ev.CatalogueTold)
        assert kinds(told) <= {ev.BeatAnswered, ev.CatalogueTold}


@pytest.mark.usefixtures("patient")
async def test_the_names_of_models_are_there_before_their_member_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pool_service.fleet.members.link.NAMED_WITHIN_S", LIMIT_S)
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), followed(member) as (_, fed):
        assert ev.CatalogueTold in kinds(await all_until(fed, ev.MemberTold))


@pytest.mark.usefixtures("patient")
async def test_a_member_that_is_lost_while_it_tells_its_models_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a host that comes back slowly: nothing has failed that somebody could mend."""
    monkeypatch.setattr("pool_service.fleet.members.link.NAMED_WITHIN_S", LIMIT_S)
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    member.named.clear()
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, fed):
        await next_of(fed, ev.BeatAnswered)
        # The question is on its way, at least.
        await asyncio.sleep(0)
        with capture_logs() as logs:
            link.interrupt()
            member.named.set()
            assert ev.SightLost not in kinds(await all_until(fed, ev.MemberTold))
        assert "error" not in [one["log_level"] for one in logs]


@pytest.mark.usefixtures("patient")
async def test_a_member_that_fails_to_tell_its_models_is_seen_and_asked_again() -> None:
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    member.failing = 2
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, fed):
        told = await all_until(fed, ev.MemberTold)
        while ev.CatalogueTold not in kinds(told):
            await member.beats.get()
            link.beat_now()
            told += await all_until(fed, ev.BeatAnswered, ev.CatalogueTold)
        assert ev.SightLost not in kinds(told)


async def test_an_offer_that_is_awaited_while_its_member_vanishes_ends_without_an_offer() -> None:
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, fed):
        await next_of(fed, ev.MemberTold)
        offer = asyncio.create_task(link.offer("m", "", download=None))
        await member.offered.wait()
        member.vanishes.set()
        await next_of(fed, ev.SightLost)
        assert await offer is None


async def test_no_failure_on_the_way_ends_the_following_of_a_member() -> None:
    asked = 0

    def secure(_host: str, _address: str) -> None:
        nonlocal asked
        asked += 1
        # As the link says why it sees the member no more, and as it connects again.
        if asked in (2, 3):
            raise OSError("no file is left to open")

    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), followed(member, secure) as (_, fed):
        await next_of(fed, ev.MemberTold)
        member.vanishes.set()
        await next_of(fed, ev.SightLost)
        member.vanishes.clear()
        await next_of(fed, ev.MemberTold)


async def test_a_link_that_is_closed_during_a_beat_asks_no_more() -> None:
    member = ScriptedMember(answers=False)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, _):
        await member.beats.get()
        link.close()
        await asyncio.gather(link._following, return_exceptions=True)
        assert link._following.cancelled()


async def test_a_call_by_a_link_that_was_closed_meanwhile_has_lost_its_member() -> None:
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), followed(member) as (link, fed):
        await next_of(fed, ev.MemberTold)
        link.close()
        await asyncio.sleep(0)
        assert link.is_closed
        with pytest.raises(MemberLost):
            await link.unary("Get", pb.GetRequest(model="m"), b"", None)
        with pytest.raises(MemberLost):
            await anext(link.stream("Pull", pb.PullRequest(model="m"), b"", None))
        assert await link.offer("m", "", download=None) is None
