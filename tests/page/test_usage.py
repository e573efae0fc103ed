"""The use of the servers, as the page polls it: true, cheap, and without any effect."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format

from pool_service.page import usage as module
from pool_service.page.usage import SERVERS_PER_TURN, Usage
from pool_service.v1 import pool_service_pb2 as pb
from tests.page.paging import Paged, paged
from tests.world import NEVER, Script, settled


async def of(told: Paged, model: str) -> dict[str, object]:
    """The use of the only server of a model."""
    (one,) = [one for one in (await told.called("Usage"))["servers"] if one["model"] == model]
    assert isinstance(one, dict)
    return one


async def test_a_server_is_told_with_what_uses_it(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        world = told.service.world
        world.script("m", Script(load=0.0, takes=7_000))
        held = told.service.stub.Hold(pb.HoldRequest(model="m"))
        while (await held.read()).server.state != pb.SERVER_STATE_READY:
            pass
        (listed,) = (await told.service.stub.List(pb.ListRequest())).servers
        one = await of(told, "m")
        held.cancel()
    assert (one["generation"], one["holds"], one["place"]) == ("1", 1, 0)
    assert one["last_use_time"] == pytest.approx(listed.last_use_time.ToNanoseconds() / 1e9)
    assert one["expire_time"] is None, "not while it is held"


async def test_the_state_of_a_server_is_told_with_the_revision_that_it_is_of(
    tmp_path: Path,
) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        await told.service.stub.Pin(pb.PinRequest(model="m", pinned=True))
        (server,) = (await told.service.stub.List(pb.ListRequest())).servers
        usage, one = await told.called("Usage"), await of(told, "m")
        revision = told.service.pool.history.revision
        now = told.service.world.clock.wall(told.service.world.clock.now())
    assert (one["state"], one["role"]) == ("SERVER_STATE_READY", "SERVER_ROLE_CURRENT")
    assert (one["pinned"], one["expected_bytes"]) == (True, server.expected_bytes)
    assert usage["revision"] == str(revision)
    assert usage["now"] == pytest.approx(now, abs=5.0)


@pytest.mark.parametrize("pinned", [False, True])
async def test_a_server_that_answers_is_busy_whether_it_is_pinned_or_not(
    pinned: bool, tmp_path: Path
) -> None:
    async with paged(tmp_path) as told:
        told.service.world.script("m", Script(load=0.0, requests=3))
        await told.service.ensure("m")
        assert (await of(told, "m"))["busy"] is False, "nobody has looked"
        await told.service.stub.Pin(pb.PinRequest(model="m", pinned=pinned))
        with pytest.raises(grpc.aio.AioRpcError, match="in flight"):
            await told.service.stub.Evict(pb.EvictRequest(model="m"))
        assert (await of(told, "m"))["busy"] is True


async def test_memory_that_nobody_has_looked_at_is_told_as_that(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        before = await told.called("Usage")
        await told.service.ensure("m")
        await settled(lambda: told.service.pool.totals().memory_current)
        after = await told.called("Usage")
    assert (before["memory_current"], after["memory_current"]) == (False, True)


async def test_who_goes_next_is_told_by_its_place(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        for model in ("a", "b", "c"):
            await told.service.ensure(model)
        order = told.service.pool.descriptions.order()
        places = {one["model"]: one["place"] for one in (await told.called("Usage"))["servers"]}
    assert places == {one.server_id.model: place for place, one in enumerate(order, 1)}


async def test_calls_that_wait_are_told_with_their_model(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        told.service.world.script("m", Script(load=NEVER))
        calls = [asyncio.create_task(told.service.ensure("m")) for _ in range(2)]
        await settled(lambda: told.service.pool.totals().waiting_calls == 2)
        assert (await of(told, "m"))["waiting_calls"] == 2
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_totals_and_notices_are_those_of_list(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        told.service.world.records.degraded_reason = "the disk is full"
        usage, listed = await told.called("Usage"), await told.service.stub.List(pb.ListRequest())
    assert json_format.ParseDict(usage["totals"], pb.PoolTotals()) == listed.totals
    assert usage["notices"] == listed.notices == ["the disk is full"]


async def test_a_service_that_recovers_tells_no_servers(tmp_path: Path) -> None:
    async with paged(tmp_path, recovers=False) as told:
        usage = await told.called("Usage")
        assert (usage["servers"], usage["revision"]) == ([], "")
        await told.service.pool.recover(1.0)


async def test_looking_changes_nothing(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        pool, world = told.service.pool, told.service.world
        before, revision = pool.page(None, 9), pool.history.revision
        for method, request in (
            ("Usage", None),
            ("Changes", b""),
            ("Ended", b"1 2"),
            ("ListModels", {"found": True}),
            ("Describe", {"model": "m"}),
            ("Describe", {"model": "other"}),
        ):
            await told.called(method, request)
        assert pool.page(None, 9) == before
        assert pool.history.revision == revision
        assert len(world.living) == 1


async def test_the_order_of_many_is_not_found_again_for_each_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    async with paged(tmp_path) as told:
        pool, found = told.service.pool, 0
        await told.service.ensure("m")

        class Clocked:
            def monotonic(self) -> float:
                return now

        real = pool.descriptions.order

        def slow() -> object:
            nonlocal now, found
            now, found = now + 0.006, found + 1
            return real()

        monkeypatch.setattr(module, "time", Clocked())
        monkeypatch.setattr(pool.descriptions, "order", slow)
        usage = Usage(pool, told.service.world.clock)
        for _ in range(5):
            await usage.as_json()
            now += 2.0
        assert found == 2, "at once, and six seconds later"


async def test_calls_are_answered_while_the_use_of_many_is_written(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        for number in range(2 * SERVERS_PER_TURN):
            await told.service.ensure(f"m{number}")
        usage = Usage(told.service.pool, told.service.world.clock)
        writing = asyncio.create_task(usage.as_json())
        turns = 0
        while not writing.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 3
        assert len(json.loads(await writing)["servers"]) == 2 * SERVERS_PER_TURN
