"""Calls of the page that take long: accepted, gone on with, and their ends told to who asks."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool_service.page import accepted_calls
from pool_service.page.accepted_calls import KEPT, MAX_UNDER_WAY
from pool_service.v1 import pool_service_pb2 as pb
from tests.page.paging import Paged, paged
from tests.rpc.serving import LIMITS, settled_hold
from tests.world import NEVER, Script, settled


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is a long one."""
    monkeypatch.setattr(accepted_calls, "ANSWER_WITHIN_S", 0.0)


async def accepted(told: Paged, method: str, model: str) -> str:
    """Make a call that takes long; return its number."""
    answer = await told.post(method, {"model": model})
    assert answer.status == 202, answer.body
    (number,) = json.loads(answer.body).values()
    return str(number)


async def ends(told: Paged, *numbers: str) -> dict[str, Any]:
    """How those of the calls ended that have ended."""
    found = await told.called("Ended", " ".join(numbers).encode())
    assert set(found) == {"ended"}
    ended: dict[str, Any] = found["ended"]
    return ended


async def end(told: Paged, number: str) -> Any:  # noqa: ANN401
    """How a call ends, once it has."""
    while True:
        if ended := await ends(told, number):
            return ended[number]


async def test_a_long_start_goes_on_and_its_end_is_told_once_it_has_come(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        loaded = asyncio.Event()
        told.service.world.script("m", Script(load=loaded))
        number = await accepted(told, "Ensure", "m")
        assert await ends(told, number) == {}
        loaded.set()
        assert await end(told, number) is None
        assert await ends(told, number) == {number: None}, "as often as it is asked for"
        (server,) = told.service.pool.page(None, 2)
        assert server.model == "m"


async def test_a_long_start_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        told.service.world.script("m", Script(load=NEVER))
        number = await accepted(told, "Ensure", "m")
        await told.service.stub.Evict(pb.EvictRequest(model="m", force=True))
        error = await end(told, number)
    assert (error["code"], error["reason"]) == ("ABORTED", "EVICTED")
    assert "'m'" in error["message"]


async def test_a_start_that_waits_for_room_too_long_is_told(tmp_path: Path) -> None:
    limits = replace(LIMITS, memory_budget=10, queue_timeout=0.05)
    async with paged(tmp_path, limits=limits) as told:
        told.service.world.default = Script(load=0.0, needs=10, takes=10)
        hold = told.service.stub.Hold(pb.HoldRequest(model="held"))
        await settled_hold(hold)
        number = await accepted(told, "Ensure", "m")
        assert (await end(told, number))["reason"] == "POOL_FULL"
        hold.cancel()


async def test_an_eviction_that_is_refused_late_is_told_as_at_once(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        told.service.world.script("m", Script(load=0.0, requests=1))
        await told.service.ensure("m")
        number = await accepted(told, "Evict", "m")
        error = await end(told, number)
        told.service.world.of("m").script.requests = 0
    assert (error["code"], error["reason"]) == ("FAILED_PRECONDITION", "SERVER_IN_USE")
    assert "'m'" in error["message"]


async def test_calls_of_another_service_are_told_as_unknown(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        number = await accepted(told, "Ensure", "m")
        await end(told, number)
    async with paged(tmp_path) as told:
        await accepted(told, "Ensure", "m")
        for unknown in (number, "1", "\u00b9"):
            assert (await ends(told, unknown))[unknown]["code"] == "NOT_FOUND"


@pytest.mark.parametrize("body", [b"", b" ", b"\xff\n\xfe", b"x " * 32_000])
async def test_whatever_is_asked_is_answered_and_not_at_length(body: bytes, tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        answer = await told.post("Ended", body)
    assert answer.status == 200
    assert len(answer.body) < 500 * len(set(body.split())) + 500


async def test_so_many_ends_are_kept_and_the_oldest_goes_first(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        first, second, *_, last = [
            await accepted(told, "Ensure", f"m{number}") for number in range(KEPT + 1)
        ]
        await settled(lambda: told.service.pool.totals().waiting_calls == 0)
        assert await end(told, last) is None
        assert (await ends(told, first))[first]["code"] == "NOT_FOUND"
        assert await ends(told, second, last) == {second: None, last: None}


async def test_calls_that_end_at_once_push_no_end_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with paged(tmp_path) as told:
        number = await accepted(told, "Ensure", "m")
        await end(told, number)
        monkeypatch.setattr(accepted_calls, "ANSWER_WITHIN_S", 20.0)
        for _ in range(KEPT + 1):
            await told.called("Ensure", {"model": "m"})
        assert await ends(told, number) == {number: None}


async def test_a_call_too_many_is_refused_until_one_has_ended(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        loaded = asyncio.Event()
        told.service.world.script("m", Script(load=loaded))
        numbers = [await accepted(told, "Ensure", "m") for _ in range(MAX_UNDER_WAY)]
        assert told.service.pool.totals().waiting_calls == MAX_UNDER_WAY
        status, error = await told.refused("Ensure", {"model": "m"})
        assert (status, error["code"]) == (503, "UNAVAILABLE")
        assert "Wait until one of them has ended" in error["message"]
        assert told.service.pool.totals().waiting_calls == MAX_UNDER_WAY
        assert await told.called("Describe", {"model": "m"}), "others go on"
        loaded.set()
        await settled(lambda: told.service.pool.totals().waiting_calls == 0)
        assert await end(told, numbers[-1]) is None
        assert await end(told, await accepted(told, "Ensure", "another")) is None


async def test_starts_that_wait_for_room_leave_evictions_that_make_it(tmp_path: Path) -> None:
    limits = replace(LIMITS, memory_budget=10)
    async with paged(tmp_path, limits=limits) as told:
        told.service.world.default = Script(load=0.0, needs=10, takes=10)
        hold = told.service.stub.Hold(pb.HoldRequest(model="held"))
        await settled_hold(hold)
        numbers = [await accepted(told, "Ensure", "m") for _ in range(MAX_UNDER_WAY)]
        assert (await told.refused("Ensure", {"model": "m"}))[0] == 503
        answer = await told.post("Evict", {"model": "held", "force": True})
        assert answer.status in (200, 202), answer.body
        assert [await end(told, number) for number in numbers] == [None] * MAX_UNDER_WAY
        hold.cancel()
