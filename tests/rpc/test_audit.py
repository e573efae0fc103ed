"""Claims about the calls that are kept as events, over a real connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from pool_service.audit import Audit
from pool_service.core.results import Reloaded
from pool_service.core.types import Settings
from pool_service.event_records import Call
from pool_service.v1 import pool_service_pb2 as pb
from tests.fake_events import FakeEvents
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
        evicted, none = calls(service)[1:]
        assert (evicted["model"], evicted["why"]) == ("m", "evicted m (1), by force")
        assert (none["target"], none["why"]) == ("all", "nothing to evict")
        assert "model" not in none, "no model is called all"


async def test_an_eviction_of_several_names_the_models_that_it_evicted() -> None:
    async with serving() as service:
        for model in ("b", "a"):
            await service.ensure(model)
        await service.stub.Evict(pb.EvictRequest(all=True))
        assert sorted(calls(service)[-1]["models"]) == ["a", "b"]


async def test_a_call_by_an_alias_is_kept_with_the_model_and_with_the_name_as_said() -> None:
    async with serving(aliases={"fast": "m"}) as service:
        await service.ensure("fast")
        await service.stub.Evict(pb.EvictRequest(model="fast"))
        await service.stub.Evict(pb.EvictRequest(model="m"))
        kept = [(one["method"], one["model"], one.get("alias")) for one in calls(service)]
        assert kept == [("Ensure", "m", "fast"), ("Evict", "m", "fast"), ("Evict", "m", None)]


async def test_a_refused_call_by_an_alias_is_kept_with_the_model_that_it_meant() -> None:
    async with serving(aliases={"fast": "m"}) as service:
        stream = service.stub.Hold(pb.HoldRequest(model="fast"))
        await settled_hold(stream)
        await failure(service.stub.Evict(pb.EvictRequest(model="fast")))
        assert [(one["method"], one["model"], one["alias"]) for one in calls(service)] == [
            ("Hold", "m", "fast"),
            ("Evict", "m", "fast"),
        ]


async def test_a_reload_names_the_models_that_it_affected() -> None:
    affected = Reloaded(replaced=("a",), updated=("b",), removed=("c",))
    async with serving(reload_result=affected) as service:
        await service.stub.Reload(pb.ReloadRequest())
        (call,) = calls(service)
        assert call["models"] == ["a", "b", "c"]
        assert call["why"] == "1 replaced, 1 updated, 1 removed"


@pytest.mark.parametrize(
    ("request_of", "said"),
    [
        (lambda stub: stub.Evict(pb.EvictRequest(all=True)), "nothing to evict"),
        (lambda stub: stub.Evict(pb.EvictRequest(model="m")), "nothing to evict"),
        (lambda stub: stub.Reload(pb.ReloadRequest()), "no server is affected"),
    ],
)
async def test_of_calls_that_change_nothing_the_first_is_kept_and_the_others_are_counted(
    request_of: Callable[[Any], Awaitable[object]], said: str
) -> None:
    async with serving() as service:
        for _ in range(5):
            await request_of(service.stub)
        assert [why for _, _, why in told(service)] == [said]
        service.audit.close()
        assert [one.get("repeated") for one in calls(service)] == [None, 4]


async def test_a_pull_that_downloads_is_kept_each_time_and_one_with_nothing_to_do_is_counted() -> (
    None
):
    async with serving() as service:
        for model in ("m", "m2"):
            service.world.script(model, Script(on_disk=False))
        for model in ("m", "m2", "m", "m", "m"):
            assert [part async for part in service.stub.Pull(pb.PullRequest(model=model))]
        assert told(service) == [
            ("Pull", "OK", "downloaded 400 B"),
            ("Pull", "OK", "downloaded 400 B"),
            ("Pull", "OK", "all files were on disk"),
        ]


async def test_a_pull_that_is_given_up_is_kept_as_its_bytes_stay() -> None:
    async with serving() as service:
        service.world.script("m", Script(on_disk=False, fetch=gate()))
        call = service.stub.Pull(pb.PullRequest(model="m"))
        await call.read()
        call.cancel()
        await settled(lambda: told(service))
        ((method, code, _),) = told(service)
        assert (method, code) == ("Pull", "CANCELLED")


async def test_holds_with_a_label_each_are_counted_whatever_their_labels_are() -> None:
    async with serving() as service:
        for number in range(4):
            stream = service.stub.Hold(pb.HoldRequest(model="m", holder=f"req-{number}"))
            await settled_hold(stream)
            stream.cancel()
            await settled(lambda: not any(server.holds for server in service.pool.page(None, 9)))
        service.audit.close()
        kept = [(one["why"], one.get("repeated")) for one in calls(service)]
        assert kept == [
            ("the hold begins (req-0)", None),
            ("the hold has ended (req-0)", None),
            ("the hold begins (req-3)", 3),
            ("the hold has ended (req-3)", 3),
        ]


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
        for refused in (
            service.stub.Describe(pb.DescribeRequest(model="x" * 10_000)),
            service.stub.List(pb.ListRequest(page_token="none")),
            service.stub.TailLogs(pb.TailLogsRequest(model="x" * 10_000)).read(),
        ):
            await failure(refused)
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


async def test_a_pin_that_changes_only_what_is_remembered_is_kept_too() -> None:
    configured = Settings(runtime_model="m", pinned=True)
    async with serving(models={"m": configured}) as service:
        for pinned in (True, True, None, None):
            await service.stub.Pin(pb.PinRequest(model="m", pinned=pinned))
        await service.ensure("m", runtime_model="org/named")
        await service.stub.Pin(pb.PinRequest(model="m", pinned=False))
        assert [why for method, _, why in told(service) if method == "Pin"] == [
            "still pinned, now by a call",
            "still pinned, now as configured",
            "still not pinned, now by a call",
        ]


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


async def test_a_call_that_the_end_of_the_service_cancels_is_told_as_that() -> None:
    async with serving() as service:
        service.world.script("m", Script(load=gate()))
        call = service.stub.Ensure(pb.EnsureRequest(model="m"))
        await settled(lambda: service.pool.totals().waiting_calls == 1)
        await service.server.stop(0)
        await settled(lambda: told(service))
        assert told(service) == [("Ensure", "CANCELLED", "the service ended before the answer")]
        call.cancel()


async def test_a_look_that_is_given_up_is_not_kept() -> None:
    async with serving() as service:
        watch = service.stub.Watch(pb.WatchRequest())
        await watch.read()
        watch.cancel()
        await service.ensure("m")
        assert [method for method, _, _ in told(service)] == ["Ensure"]


def refusal(audit: Audit, peer: str, model: str, principal: str) -> None:
    """A refused call, as it is kept."""
    audit.refused(Call("Ensure", model, peer, principal=principal), "X", "MODEL_UNKNOWN", "none")


@pytest.mark.parametrize("principal", ["", "engine"])
async def test_nobody_pushes_the_story_out_by_calls_that_are_refused(principal: str) -> None:
    events = FakeEvents()
    audit = Audit(events)
    for number in range(5000):
        refusal(audit, f"ipv4:10.0.{number // 250}.{number % 250}:1", f"m{number}", principal)
    audit.close()
    assert len(events.of("call")) < 300
    assert sum(event.get("repeated", 1) for event in events.of("call")) == 5000


async def test_all_addresses_of_loopback_are_one_host() -> None:
    events = FakeEvents()
    audit = Audit(events)
    for number in range(50):
        refusal(audit, f"ipv4:127.0.0.{number}:{number}", "", "")
    assert len(events.of("call")) == 1
    audit.close()
