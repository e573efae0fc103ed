"""Claims about the driver of a front, with members that tests script."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.system.clock import SystemClock
from pool_service.change_history import History
from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.asking import Place
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.machine import Machine
from pool_service.fleet.core.seats import MOST_TRIES
from pool_service.fleet.core.values import Lead, Offer, Report, Seat, SeenServer, ServerState
from pool_service.fleet.fleet import Fleet
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, NAME, server

LIMIT_S = 60.0

COUNTED = 900
"""The room of a member that had 1000 and counts one server of 100 now."""


class ScriptedLink:
    """A link to a member that offers what the test says, or fails as no link should."""

    def __init__(self) -> None:
        self.offers: asyncio.Queue[Offer | Exception] = asyncio.Queue()
        self.taken = asyncio.Event()
        self.evicting: asyncio.Queue[str] = asyncio.Queue()
        self.eviction_fails = False

    def close(self) -> None: ...

    def beat_now(self) -> None: ...

    def interrupt(self) -> None: ...

    async def offer(self, name: str, runtime_model: str, *, download: bool | None) -> Offer | None:
        offer = await self.offers.get()
        self.taken.set()
        if isinstance(offer, Exception):
            raise offer
        return offer

    async def evict_copy(self, model: str, epoch: int) -> None:
        self.evicting.put_nowait(model)
        if self.eviction_fails:
            raise ValueError("an answer that nobody thought of")


def fleet_of(
    links: dict[str, ScriptedLink], later: dict[str, ScriptedLink] | None = None
) -> Fleet[ScriptedLink]:
    """Return a fleet that leads members, which have told that they have no servers.

    later: the links to those that may be listed later.
    """
    history, all_links = History[SeenServer](1, 100), links | (later or {})
    machine = Machine(NAME, LOST_AFTER_S)
    fleet = Fleet(machine, SystemClock(), history, lambda host, _address, _feed: all_links[host])
    fleet.feed(ev.LeadChanged(Lead(leads=True)))
    fleet.feed(ev.MembersListed({host: f"{host}:1" for host in links}))
    for host in links:
        fleet.feed(ev.BeatAnswered(host, Report()))
        fleet.feed(ev.MemberTold(host, (), 1))
    for host in links:
        fleet.feed(ev.BeatAnswered(host, Report(epoch=fleet.epoch, front=NAME, front_heard=0.0)))
    return fleet


async def test_a_server_that_an_offer_counts_before_its_change_has_come_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pool_service.fleet.fleet.CATCH_UP_S", LIMIT_S)
    links = {"a": ScriptedLink(), "b": ScriptedLink()}
    fleet = fleet_of(links)

    async def offer(model: str, **free: int) -> None:
        for host, link in links.items():
            revision = 5 if free[host] == COUNTED else 1
            offer = replace(FITS, model=model, free=free[host], revision=revision)
            link.offers.put_nowait(offer)
            await link.taken.wait()
            link.taken.clear()

    async with asyncio.timeout(LIMIT_S):
        with fleet.asking("other") as first, fleet.asking("m") as second:
            asked = asyncio.create_task(first.seat())
            await offer("other", a=1000, b=200)
            assert is_at("a", await asked)
            waiting = asyncio.create_task(second.seat())
            await offer("m", a=COUNTED, b=850)
            # The placing goes as far as it can before the change comes.
            for _ in range(10):
                await asyncio.sleep(0)
            starting = server("a", "other", state=ServerState.STARTING, revision=5)
            fleet.feed(ev.ServerChanged(starting))
            assert is_at("a", await waiting)


async def test_the_history_is_there_once_and_for_ever() -> None:
    links = {"a": ScriptedLink(), "b": ScriptedLink()}
    fleet = fleet_of({"a": links["a"]}, links)
    revision = fleet.history.revision
    for address in ("b:1", "elsewhere:1"):
        fleet.feed(ev.MembersListed({"a": "a:1", "b": address}))
        assert fleet.history.revision == revision
        fleet.feed(ev.MemberTold("b", (), 1))


async def test_a_member_that_cannot_be_asked_holds_up_no_call() -> None:
    links = {"a": ScriptedLink(), "b": ScriptedLink()}
    fleet = fleet_of(links)
    links["a"].offers.put_nowait(ValueError("an answer that nobody thought of"))
    links["b"].offers.put_nowait(FITS)
    async with asyncio.timeout(LIMIT_S):
        with capture_logs() as logs, fleet.asking("m") as asking:
            assert is_at("b", await asking.seat())
    assert [one["log_level"] for one in logs if "asked" in one["event"]] == ["error"]


async def test_a_call_is_answered_if_no_member_can_be_asked() -> None:
    links = {"a": ScriptedLink()}
    fleet = fleet_of(links)
    for _ in range(MOST_TRIES):
        links["a"].offers.put_nowait(ValueError("an answer that nobody thought of"))
    async with asyncio.timeout(LIMIT_S):
        with fleet.asking("m") as asking, pytest.raises(PoolUnreachable):
            await asking.seat()


async def test_a_copy_whose_eviction_has_failed_is_evicted_again() -> None:
    links = {"a": ScriptedLink(), "b": ScriptedLink()}
    fleet = fleet_of(links)
    links["a"].eviction_fails = True
    fleet.feed(ev.ServerChanged(server("b")))
    fleet.feed(ev.ServerChanged(server("a")))
    async with asyncio.timeout(LIMIT_S):
        assert [await links["a"].evicting.get() for _ in range(2)] == ["m", "m"]


async def test_files_are_brought_to_no_member_where_nothing_is_started() -> None:
    links = {"a": ScriptedLink(), "b": ScriptedLink()}
    fleet = fleet_of(links)
    fleet.feed(ev.BeatAnswered("a", Report(reachable=False)))
    links["a"].offers.put_nowait(FITS)
    links["b"].offers.put_nowait(replace(FITS, on_disk=False))
    async with asyncio.timeout(LIMIT_S):
        assert await fleet.best_host("m", "") == "b"


def is_at(host: str, place: Place) -> bool:
    """Return whether a call is sent to a host."""
    return isinstance(place, Seat) and place.host == host
