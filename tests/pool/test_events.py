"""Claims about the events that the pool keeps: changes of servers, and calls, in virtual time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pool_service.access.principal import LOCAL
from pool_service.audit import MAX_KINDS, REPEAT_WINDOW_S, Audit
from pool_service.event_records import MAX_MODELS, Call
from tests.fake_events import FakeEvents
from tests.pool.capacity import room, sized
from tests.pool.running import LIMITS, Running, running
from tests.world import Script

pytestmark = pytest.mark.looptime

A_CALL = Call("Evict", "m", "ipv4:127.0.0.1:1000")


def phases(run: Running, model: str = "m") -> list[tuple[str | None, str | None]]:
    told = [one for one in run.world.events.of("transition") if one["model"] == model]
    return [(one["before"], one["after"]) for one in told]


async def test_each_change_of_phase_is_an_event_from_the_request_to_the_end() -> None:
    async with running(keep_alive=5.0, grace_period=0.0) as run:
        await run.pool.ensure("m")
        await asyncio.sleep(10)
    assert phases(run) == [
        (None, "QUEUED"),
        ("QUEUED", "PREPARING"),
        ("PREPARING", "SPAWNING"),
        ("SPAWNING", "STARTING"),
        ("STARTING", "READY"),
        ("READY", "STOPPING"),
        ("STOPPING", "CLEANING_UP"),
        ("CLEANING_UP", None),
    ]


async def test_a_use_and_a_hold_are_no_events_of_the_server() -> None:
    async with running() as run:
        await run.pool.ensure("m")
        before = len(run.world.events.written)
        await asyncio.sleep(1)
        await run.pool.ensure("m")
        held = run.pool.hold("m")
        await anext(held)
        await held.aclose()
        assert len(run.world.events.written) == before


async def test_the_end_of_a_process_is_told_once_with_its_cause() -> None:
    async with running() as run:
        run.world.script("m", Script(dies=5.0))
        await run.pool.ensure("m")
        await asyncio.sleep(10)
    ends = [one for one in run.world.events.of("transition") if "exit" in one]
    (end,) = ends
    assert (end["before"], end["after"]) == ("READY", "CLEANING_UP")
    assert end["exit"] == {
        "cause": "CRASHED",
        "code": 1,
        "message": "The runtime exited with code 1",
    }


async def test_a_preempted_server_tells_for_whom_it_goes_and_what_that_needs() -> None:
    async with room() as run:
        run.world.script("old", sized(8))
        run.world.script("new", sized(7))
        await run.pool.ensure("old")
        await run.pool.ensure("new")
    told = [one for one in run.world.events.of("transition") if "preemptor" in one]
    (going,) = told
    assert (going["model"], going["after"], going["cause"]) == ("old", "STOPPING", "PREEMPTED")
    assert (going["preemptor"], going["needed_bytes"]) == ("new", 7)


async def test_a_change_of_role_alone_is_an_event() -> None:
    limits = replace(LIMITS, sample_interval=1.0)
    async with running(limits=limits, memory_limit=120, grace_period=3.0) as run:
        run.world.renewed.add("m")
        first = Script(load=2.0, needs=100, takes=100)
        run.world.script("m", first, Script(load=2.0, needs=100, takes=100))
        await run.pool.ensure("m")
        first.grown = 30
        await asyncio.sleep(40)
    told = [one for one in run.world.events.of("transition") if "before_role" in one]
    assert [
        (one["generation"], one["before_role"], one["role"], one["before"], one["after"])
        for one in told
    ] == [
        (1, "CURRENT", "SUPERSEDED", "READY", "READY"),
        (2, "SUCCESSOR", "CURRENT", "STARTING", "READY"),
    ]
    assert "was replaced" in told[0]["why"]


async def test_events_that_cannot_be_written_keep_no_change_from_the_others() -> None:
    async with running() as run:
        run.world.events.write = None  # type: ignore[assignment,method-assign]
        await run.pool.ensure("m")
        assert run.phases() != []


def audited() -> tuple[Audit, FakeEvents]:
    events = FakeEvents()
    return Audit(events), events


def refuse(audit: Audit, call: Call = A_CALL) -> None:
    audit.refused(call, "FAILED_PRECONDITION", "SERVER_IN_USE", "it is in use")


def counts(events: FakeEvents) -> list[Any]:
    return [event.get("repeated") for event in events.written]


async def test_refusals_that_are_alike_are_counted_and_told_at_the_end_of_the_minute() -> None:
    audit, events = audited()
    for port in range(500):
        refuse(audit, Call("Evict", "m", f"ipv4:127.0.0.1:{port}"))
        await asyncio.sleep(0.1)
    assert counts(events) == [None]
    await asyncio.sleep(REPEAT_WINDOW_S)
    assert counts(events) == [None, 499]
    assert events.written[-1]["peer"] == "ipv4:127.0.0.1:499"
    refuse(audit)
    assert counts(events) == [None, 499, None], "a new minute begins with a line of its own"
    audit.close()


async def test_the_number_of_calls_that_are_alike_has_the_time_of_the_last_of_them() -> None:
    events, began = FakeEvents(), asyncio.get_running_loop().time()
    audit = Audit(events, now=lambda: asyncio.get_running_loop().time() - began)
    for _ in range(3):
        refuse(audit)
        await asyncio.sleep(5)
    await asyncio.sleep(REPEAT_WINDOW_S)
    assert counts(events) == [None, 2]
    assert events.times == [None, pytest.approx(10)]


@pytest.mark.parametrize(
    "other",
    [
        Call("Evict", "other", A_CALL.peer),
        Call("Ensure", "m", A_CALL.peer),
        Call("Evict", "m", "ipv4:10.0.0.1:1000"),
        Call("Evict", "m", A_CALL.peer, "somebody"),
    ],
)
async def test_refusals_that_differ_are_told_each(other: Call) -> None:
    audit, events = audited()
    refuse(audit)
    refuse(audit, other)
    assert counts(events) == [None, None]
    audit.close()


async def test_calls_that_change_something_are_told_each() -> None:
    audit, events = audited()
    for _ in range(3):
        audit.changed(A_CALL, "evicted m (1)")
    assert counts(events) == [None] * 3
    assert events.written[0] == {
        "kind": "call",
        "method": "Evict",
        "code": "OK",
        "model": "m",
        "peer": A_CALL.peer,
        "why": "evicted m (1)",
    }


async def test_a_call_names_each_model_that_it_affected_once_and_only_so_many() -> None:
    audit, events = audited()
    audit.changed(A_CALL, "evicted them", ["a", "b", "a"])
    audit.changed(A_CALL, "evicted them", [f"m{number}" for number in range(5000)])
    few, many = (event["models"] for event in events.written)
    assert few == ["a", "b"]
    assert many == [f"m{number}" for number in range(MAX_MODELS)]


async def test_numbers_that_are_due_later_are_written_when_the_service_ends() -> None:
    audit, events = audited()
    for _ in range(3):
        refuse(audit)
    audit.close()
    assert counts(events) == [None, 2]


async def test_only_so_many_kinds_are_counted_and_none_is_lost() -> None:
    audit, events = audited()
    for _ in range(2):
        refuse(audit)
    for number in range(MAX_KINDS):
        refuse(audit, Call("Evict", f"m{number}", A_CALL.peer, principal=LOCAL.name))
    assert 1 in counts(events)
    assert len(audit._kinds) == MAX_KINDS
    audit.close()
