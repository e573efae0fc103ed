"""Claims about the beats of a front: when they are sent, and what the network carries for them."""

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from pool_service.fleet.core import events as ev
from pool_service.fleet.members.beat_times import TOGETHER, Places, next_beat
from pool_service.fleet.members.link import GrpcLink, Manner
from tests.fleet.frames import PING, Frame, passed_on
from tests.fleet.members.scripted import (
    LIMIT_S,
    Fed,
    ScriptedMember,
    linked,
    listening,
    next_of,
)

BEAT_S = 0.05
BEATS = 20


# --- when they are sent -------------------------------------------------------------------------


@pytest.mark.parametrize("beat_s", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("place", [0, 1, 15, 16, 40, 999])
def test_a_beat_is_never_later_than_the_time_between_two(place: int, beat_s: float) -> None:
    for step in range(1000):
        now = 1_000_000 + step * beat_s / 97
        assert now <= next_beat(place, beat_s, now) <= now + beat_s + 1e-6


def test_as_many_beats_as_are_sent_at_once_are_due_at_one_time() -> None:
    times = {next_beat(place, 0.5, 77.1) for place in range(TOGETHER + 1)}
    assert len(times) == 2


def test_the_beats_of_a_thousand_members_are_spread() -> None:
    times = sorted(next_beat(place, 1.0, 77.0) for place in range(1000))
    groups = sorted(set(times))
    assert all(times.count(one) <= TOGETHER for one in groups)
    gaps = [later - earlier for earlier, later in pairwise(groups)]
    assert max(gaps) <= 2 * TOGETHER / 1000 + 1e-6


def test_a_place_is_given_to_another_link_once_its_own_is_closed() -> None:
    places = Places()
    first, second, third = (places.take() for _ in range(3))
    places.give_back(second)
    places.give_back(first)
    assert (places.take(), places.take()) == (first, second)
    assert places.take() not in (first, second, third)


async def test_members_that_were_found_at_several_times_are_asked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    call_at, timers = loop.call_at, asyncio.Queue[tuple[Any, float]]()

    def noting(when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:  # noqa: ANN401 - as of asyncio
        timers.put_nowait((callback, when))
        return call_at(when, callback, *args, **more)

    async def due(link: GrpcLink) -> float:
        while True:
            callback, when = await timers.get()
            if callback == link._beat.set:
                return when

    monkeypatch.setattr(loop, "call_at", noting)
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    async with asyncio.timeout(LIMIT_S), listening(member) as port:
        manner = Manner("front", lambda: 1, lambda: LIMIT_S, lambda _host, _address: None)
        async with linked(port, manner) as (first, _):
            first_due = await due(first)
            async with linked(port, manner) as (second, _):
                apart = (await due(second) - first_due) % LIMIT_S
        assert min(apart, LIMIT_S - apart) < 1e-6


# --- what the network carries for them ------------------------------------------------------------


async def test_no_pings_go_with_the_beats() -> None:
    seen: list[Frame] = []
    member = ScriptedMember(answers=True)  # type: ignore[abstract]
    async with (
        asyncio.timeout(LIMIT_S),
        listening(member) as port,
        passed_on(port, seen.append) as between,
    ):
        manner = Manner("front", lambda: 1, lambda: BEAT_S, lambda _host, _address: None)
        async with linked(between, manner) as (_, fed):
            await next_of(fed, ev.MemberTold)
            del seen[:]
            for _ in range(BEATS):
                await answered(fed)
        assert len(seen) > BEATS
        assert all(frame.kind != PING for frame in seen)


async def answered(fed: Fed) -> None:
    """Wait for the answer to a beat; the member is not lost meanwhile."""
    while not isinstance(event := await fed.get(), ev.BeatAnswered):
        assert not isinstance(event, ev.SightLost)
