"""Claims about the calls that are kept as events, over a real connection."""

import asyncio
from typing import Any

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import Service, failure, gate, serving, settled_hold
from tests.world import Script, settled


def calls(service: Service) -> list[dict[str, Any]]:
    return service.world.events.of("call")


def told(service: Service) -> list[tuple[str, str, str]]:
    """Method, code or reason, and what happened, of each call that was kept."""
    return [
        (one["method"], one.get("reason", one["code"]), one.get("why", ""))
        for one in calls(service)
    ]


async def test_an_ensure_that_started_a_server_is_kept_and_a_warm_one_is_not() -> None:
    async with serving() as service:
        for _ in range(3):
            await service.ensure("m")
        assert told(service) == [("Ensure", "OK", "started generation 1")]
        (call,) = calls(service)
        assert call["model"] == "m"
        assert call["peer"].startswith("ipv4:127.0.0.1:")


async def test_a_failed_ensure_is_kept_with_its_reason_and_message() -> None:
    async with serving(only_listed=True) as service:
        error = await failure(service.ensure("m"))
        assert told(service) == [("Ensure", "MODEL_UNKNOWN", error.message)]
        assert calls(service)[0]["code"] == "NOT_FOUND"


async def test_an_eviction_is_kept_with_what_it_evicted() -> None:
    async with serving() as service:
        await service.ensure("m")
        await service.stub.Evict(pb.EvictRequest(model="m", force=True))
        await service.stub.Evict(pb.EvictRequest(all=True))
        kept = [(one["model"], one["why"]) for one in calls(service)[1:]]
        assert kept == [("m", "evicted m (1), by force"), ("all", "nothing to evict")]


async def test_a_refused_eviction_and_the_hold_that_it_was_refused_for_are_kept() -> None:
    async with serving() as service:
        stream = service.stub.Hold(pb.HoldRequest(model="m", holder="a test"))
        await settled_hold(stream)
        await failure(service.stub.Evict(pb.EvictRequest(model="m")))
        stream.cancel()
        for _ in range(1000):  # the service learns of it in a moment
            if len(calls(service)) < 3:
                await asyncio.sleep(0.02)
        assert [one[:2] for one in told(service)] == [
            ("Hold", "OK"),
            ("Evict", "SERVER_IN_USE"),
            ("Hold", "OK"),
        ]
        assert told(service)[0][2] == "the hold begins (a test)"
        assert told(service)[2][2] == "the hold has ended (a test)"


async def test_forget_and_reload_are_kept_if_they_change_something() -> None:
    async with serving() as service:
        await service.stub.Forget(pb.ForgetRequest(model="m"))
        await service.ensure("m", runtime_model="org/other")
        await service.stub.Forget(pb.ForgetRequest(model="m"))
        await service.stub.Reload(pb.ReloadRequest())
        assert told(service)[1:] == [
            ("Forget", "OK", "forgot org/other"),
            ("Reload", "OK", "no server is affected"),
        ]


async def test_looks_are_not_kept() -> None:
    async with serving() as service:
        await service.stub.List(pb.ListRequest())
        await service.stub.ListModels(pb.ListModelsRequest(found=True))
        stream = service.stub.Watch(pb.WatchRequest())
        await stream.read()
        stream.cancel()
        error = await failure(service.stub.Watch(pb.WatchRequest(after_revision=1)).read())
        assert error.reason == "REVISION_COMPACTED"
        assert calls(service) == []


async def test_a_name_that_is_no_name_is_kept_short() -> None:
    async with serving() as service:
        with pytest.raises(grpc.aio.AioRpcError):
            await service.ensure("x" * 10_000)
        (call,) = calls(service)
        assert call["reason"] == "INVALID_MODEL"
        assert len(call["model"]) == 512


async def test_a_pin_is_kept_if_it_changed_something() -> None:
    async with serving() as service:
        for pinned in (True, True, False):
            await service.stub.Pin(pb.PinRequest(model="m", pinned=pinned))
        assert told(service) == [("Pin", "OK", "pinned"), ("Pin", "OK", "no longer pinned")]


async def test_a_caller_that_goes_away_before_the_answer_is_kept() -> None:
    async with serving() as service:
        service.world.script("m", Script(load=gate()))
        call = service.stub.Ensure(pb.EnsureRequest(model="m"))
        await settled(lambda: service.pool.totals().waiting_calls == 1)
        call.cancel()
        await settled(lambda: told(service))
        ((method, code, why),) = told(service)
        assert (method, code) == ("Ensure", "CANCELLED")
        assert "went away" in why


async def test_a_look_that_is_given_up_is_not_kept() -> None:
    async with serving() as service:
        watch = service.stub.Watch(pb.WatchRequest())
        await watch.read()
        watch.cancel()
        await service.ensure("m")
        assert [method for method, _, _ in told(service)] == ["Ensure"]
