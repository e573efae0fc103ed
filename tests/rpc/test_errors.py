"""Every error that a caller can meet: its code, its reason and its details."""

import asyncio
import json
import math
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import grpc
import pytest

from pool_service.core import remembered
from pool_service.core.errors import (
    CodeNotTrusted,
    FetchFailed,
    ModelRejected,
    RuntimeUnavailable,
    StartFailed,
)
from pool_service.core.types import Diagnosis, ExitReport, Settings
from pool_service.metrics.call_counts import CallCounts
from pool_service.rpc.server import SERVICE
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.pool.running import BUDGET
from tests.rpc.serving import (
    LIMITS,
    REVISION,
    Failure,
    Service,
    failure,
    gate,
    serving,
    settled_hold,
)
from tests.world import CRASH, KILLED, NEVER, REJECTED, Script, settled

WIDEST = 8 * 1024
"""What a peer takes of metadata by default."""

Provoke = Callable[[Service], Coroutine[Any, Any, Failure]]


async def conflict(service: Service) -> Failure:
    await service.ensure(runtime_model="org/one")
    return await failure(service.ensure(runtime_model="org/two"))


async def in_use(service: Service, requests: int | None = 2) -> Failure:
    service.world.script("m", Script(load=0.0, requests=requests))
    await service.ensure()
    return await failure(service.stub.Evict(pb.EvictRequest(model="m")))


async def unavailable(service: Service) -> Failure:
    service.world.script("m", Script(raises={"prepare": RuntimeUnavailable("none", model="m")}))
    return await failure(service.ensure())


async def rejected(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER, dies=0.0, report=REJECTED))
    return await failure(service.ensure())


async def rejected_early(service: Service) -> Failure:
    error = ModelRejected("carries code", model="m")
    service.world.script("m", Script(raises={"prepare": error}))
    return await failure(service.ensure())


async def unknown(service: Service) -> Failure:
    return await failure(service.ensure("unlisted"))


async def not_on_disk(service: Service) -> Failure:
    service.world.script("m", Script(on_disk=False))
    return await failure(service.ensure())


async def with_code(service: Service) -> Failure:
    error = CodeNotTrusted("brings code", model="m", files=("config.json: auto_map", "x.py"))
    service.world.script("m", Script(raises={"estimate": error}))
    return await failure(service.ensure())


async def not_fetched(service: Service) -> Failure:
    error = FetchFailed("no network", model="m")
    service.world.script("m", Script(on_disk=False, raises={"fetch": error}))
    request = pb.EnsureRequest(model="m", download=True)
    return await failure(service.stub.Ensure(request))


async def too_large(service: Service) -> Failure:
    service.world.script("m", Script(needs=11))
    return await failure(service.ensure())


async def full(service: Service) -> Failure:
    service.world.script("held", Script(load=0.0, needs=10, takes=10))
    held = service.stub.Hold(pb.HoldRequest(model="held"))
    await settled_hold(held)
    return await failure(service.ensure())


async def queue_full(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER, needs=10))
    service.world.script("n", Script(needs=10))
    starting = asyncio.create_task(service.ensure("m"))
    await settled(lambda: service.world.times("ready"))
    waiting = asyncio.create_task(service.ensure("n"))
    await settled(lambda: service.pool.totals().waiting_calls == 2)
    told = await failure(service.ensure("o"))
    for call in (starting, waiting):
        call.cancel()
    return told


async def held(service: Service) -> Failure:
    stream = service.stub.Hold(pb.HoldRequest(model="m", holder="engine 7"))
    await settled_hold(stream)
    return await failure(service.stub.Evict(pb.EvictRequest(model="m")))


async def timed_out(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER))
    return await failure(service.ensure())


async def died(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER, dies=0.0, report=CRASH))
    return await failure(service.ensure())


async def looped(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER, dies=0.0, report=KILLED))
    return await failure(service.ensure())


async def looped_before(service: Service) -> Failure:
    await looped(service)
    return await failure(service.ensure())


async def evicted(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER))
    call = asyncio.create_task(failure(service.ensure()))
    await settled(lambda: service.world.times("ready"))
    await service.stub.Evict(pb.EvictRequest(model="m"))
    return await call


async def shutting_down(service: Service) -> Failure:
    service.world.script("m", Script(load=NEVER))
    call = asyncio.create_task(failure(service.ensure()))
    await settled(lambda: service.world.times("ready"))
    await service.pool.shutdown()
    return await call


async def after_shutdown(service: Service) -> Failure:
    await service.pool.shutdown()
    return await failure(service.ensure())


async def watched_to_the_end(service: Service) -> Failure:
    stream = service.stub.Watch(pb.WatchRequest())
    await stream.read()
    await service.pool.shutdown()
    return await failure(stream.read())


async def compacted(service: Service) -> Failure:
    for _ in range(2):
        await service.ensure()
        await service.stub.Evict(pb.EvictRequest(model="m"))
    return await failure(service.stub.Watch(pb.WatchRequest(after_revision=REVISION)).read())


async def of_the_future(service: Service) -> Failure:
    return await failure(service.stub.Watch(pb.WatchRequest(after_revision=10**15)).read())


async def a_bug(service: Service) -> Failure:
    service.world.script("m", Script(raises={"prepare": ZeroDivisionError("secret")}))
    return await failure(service.ensure())


@pytest.mark.parametrize(
    ("provoke", "code", "reason", "details"),
    [
        (conflict, "FAILED_PRECONDITION", "RUNTIME_MODEL_CONFLICT", {"PreconditionFailure"}),
        (in_use, "FAILED_PRECONDITION", "SERVER_IN_USE", {"PreconditionFailure"}),
        (unavailable, "FAILED_PRECONDITION", "RUNTIME_UNAVAILABLE", {"PreconditionFailure"}),
        (rejected, "FAILED_PRECONDITION", "MODEL_REJECTED", {"ResourceInfo", "DebugInfo"}),
        (rejected_early, "FAILED_PRECONDITION", "MODEL_REJECTED", {"ResourceInfo", "DebugInfo"}),
        (timed_out, "UNAVAILABLE", "START_TIMEOUT", {"RetryInfo", "DebugInfo"}),
        (died, "UNAVAILABLE", "START_FAILED", {"RetryInfo", "DebugInfo"}),
        (looped, "FAILED_PRECONDITION", "CRASH_LOOP", {"RetryInfo", "DebugInfo"}),
        (looped_before, "FAILED_PRECONDITION", "CRASH_LOOP", {"RetryInfo", "DebugInfo"}),
        (evicted, "ABORTED", "EVICTED", {"ResourceInfo"}),
        (shutting_down, "UNAVAILABLE", "SHUTTING_DOWN", {"RetryInfo"}),
        (after_shutdown, "UNAVAILABLE", "SHUTTING_DOWN", {"RetryInfo"}),
        (watched_to_the_end, "UNAVAILABLE", "SHUTTING_DOWN", {"RetryInfo"}),
        (compacted, "OUT_OF_RANGE", "REVISION_COMPACTED", set()),
        (of_the_future, "OUT_OF_RANGE", "REVISION_COMPACTED", set()),
        (a_bug, "INTERNAL", "INTERNAL", {"RequestInfo"}),
        (not_on_disk, "FAILED_PRECONDITION", "MODEL_NOT_ON_DISK", {"ResourceInfo"}),
        (with_code, "FAILED_PRECONDITION", "CODE_NOT_TRUSTED", {"PreconditionFailure"}),
        (not_fetched, "UNAVAILABLE", "FETCH_FAILED", {"ResourceInfo", "RetryInfo"}),
        (held, "FAILED_PRECONDITION", "SERVER_IN_USE", {"PreconditionFailure"}),
    ],
)
async def test_a_failure_has_its_code_its_reason_and_its_details(
    provoke: Provoke, code: str, reason: str, details: set[str]
) -> None:
    limits = replace(LIMITS, crash_limit=2)
    # Where something is to be started, a machine may be slow.
    start_timeout = 0.05 if provoke is timed_out else 60.0
    async with serving(capacity=8, start_timeout=start_timeout, limits=limits) as service:
        told = await provoke(service)
        assert (told.code, told.reason) == (code, reason)
        assert set(told.details) == details | {"ErrorInfo"}
        assert told.details["ErrorInfo"].domain == "pool_service"
        assert told.message
        assert told.pushback == pushback_of(told)


def pushback_of(told: Failure) -> str:
    """Return the milliseconds that a failure's RetryInfo names, rounded up; -1 without one."""
    if "RetryInfo" not in told.details:
        return "-1"
    return str(math.ceil(told.details["RetryInfo"].retry_delay.ToNanoseconds() / 1e6))


@pytest.mark.parametrize(("recovers", "calls"), [(False, 2), (True, 1)], ids=["later", "never"])
async def test_a_bare_stub_with_a_retry_policy_retries_if_the_service_says_so_and_when(
    recovers: bool, calls: int
) -> None:
    """Its own policy would retry each of these codes, in an hour."""
    policy = {
        "maxAttempts": 2,
        "initialBackoff": "3600s",
        "maxBackoff": "3600s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE", "INVALID_ARGUMENT"],
    }
    config = {"methodConfig": [{"name": [{"service": SERVICE}], "retryPolicy": policy}]}
    options = [("grpc.service_config", json.dumps(config))]
    counts = CallCounts()
    async with serving(counts=counts, recovers=recovers) as service:
        async with grpc.aio.insecure_channel(service.address, options) as channel:
            request = pb.ListRequest(page_size=-1 if recovers else 0)
            await failure(pb_grpc.PoolServiceStub(channel).List(request, timeout=600.0))
        await settled(lambda: sum(counts.ended.values()) == calls)
        await service.pool.recover(BUDGET)


async def test_a_pin_beside_as_many_as_are_remembered_is_refused_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remembered, "MAX_PINS", 1)
    async with serving() as service:
        await service.stub.Pin(pb.PinRequest(model="a", pinned=True))
        told = await failure(service.stub.Pin(pb.PinRequest(model="b", pinned=True)))
        assert (told.code, told.reason) == ("FAILED_PRECONDITION", "TOO_MANY_PINS")
        assert set(told.details) == {"ErrorInfo", "QuotaFailure"}
        assert "Take back pins" in told.message
        (found,) = (await service.stub.ListModels(pb.ListModelsRequest(found=True))).models
        assert (found.model, found.pinned) == ("a", True)


@pytest.mark.parametrize(
    ("provoke", "code", "reason", "details"),
    [
        (too_large, "FAILED_PRECONDITION", "MODEL_TOO_LARGE", {"QuotaFailure"}),
        (full, "RESOURCE_EXHAUSTED", "POOL_FULL", {"RetryInfo", "QuotaFailure"}),
        (queue_full, "RESOURCE_EXHAUSTED", "QUEUE_FULL", {"RetryInfo", "QuotaFailure"}),
    ],
)
async def test_where_there_is_no_capacity_the_error_names_what_is_short(
    provoke: Provoke, code: str, reason: str, details: set[str]
) -> None:
    limits = replace(LIMITS, memory_budget=10, queue_limit=1, queue_timeout=0.05)
    async with serving(limits=limits, start_timeout=5.0) as service:
        service.world.default = Script(load=0.0, needs=10)
        told = await provoke(service)
        assert (told.code, told.reason) == (code, reason)
        assert set(told.details) == details | {"ErrorInfo"}


async def test_a_model_that_can_never_fit_is_reported_with_the_figures() -> None:
    async with serving(limits=replace(LIMITS, memory_budget=10)) as service:
        metadata = (await too_large(service)).details["ErrorInfo"].metadata
        assert (metadata["needed_bytes"], metadata["budget_bytes"]) == ("11", "10")


async def test_a_model_that_is_not_listed_is_not_found() -> None:
    async with serving(models={"m": Settings("org/m")}, only_listed=True) as service:
        told = await unknown(service)
        assert (told.code, told.reason) == ("NOT_FOUND", "MODEL_UNKNOWN")
        assert set(told.details) == {"ErrorInfo", "ResourceInfo"}


async def test_an_eviction_of_a_held_server_gets_the_holders() -> None:
    async with serving() as service:
        metadata = (await held(service)).details["ErrorInfo"].metadata
        assert (metadata["holds"], metadata["holders"]) == ("1", "engine 7")


async def test_the_details_name_what_helps() -> None:
    async with serving() as service:
        told = await rejected(service)
        assert told.details["DebugInfo"].stack_entries == ["no config.json"]
        assert told.details["ResourceInfo"].resource_name == "m"
        assert told.details["ErrorInfo"].metadata["model"] == "m"
    async with serving(start_timeout=0.05) as service:
        (line,) = (await timed_out(service)).details["DebugInfo"].stack_entries
        assert "still loading" in line
    async with serving() as service:
        told = await conflict(service)
        metadata = told.details["ErrorInfo"].metadata
        assert (metadata["running"], metadata["asked"]) == ("org/one", "org/two")
    async with serving() as service:
        assert (await in_use(service)).details["ErrorInfo"].metadata["requests"] == "2"


async def test_a_server_whose_requests_cannot_be_counted_reports_no_number() -> None:
    async with serving() as service:
        unknown = await in_use(service, None)
        assert unknown.details["ErrorInfo"].metadata["requests"] == "unknown"
    async with serving() as service:
        assert (await died(service)).details["RetryInfo"].retry_delay.ToSeconds() >= 1


async def test_a_crash_loop_says_how_long_it_lasts_and_what_was_written_last() -> None:
    async with serving(limits=replace(LIMITS, crash_limit=2)) as service:
        told = await looped(service)
        assert told.details["RetryInfo"].retry_delay.ToSeconds() == LIMITS.backoff_max
        assert told.details["DebugInfo"].stack_entries == ["boom"]
        assert told.details["ErrorInfo"].metadata["model"] == "m"
        again = await failure(service.ensure())
        delay = again.details["RetryInfo"].retry_delay.ToNanoseconds() / 1e9
        assert 0 < delay <= LIMITS.backoff_max
        assert len(service.world.times("spawn")) == 2


async def test_every_call_before_the_end_of_the_recovery_is_asked_to_retry() -> None:
    async with serving(recovers=False) as service:
        for told in (
            await failure(service.ensure()),
            await failure(service.stub.Evict(pb.EvictRequest(model="m"))),
            await failure(service.stub.List(pb.ListRequest())),
            await failure(service.stub.Watch(pb.WatchRequest()).read()),
            await failure(service.stub.Watch(pb.WatchRequest(after_revision=REVISION)).read()),
        ):
            assert (told.code, told.reason) == ("UNAVAILABLE", "RECOVERING")
            assert set(told.details) == {"ErrorInfo", "RetryInfo"}
        await service.pool.recover(BUDGET)
        assert (await service.ensure()).started


async def test_a_bad_field_is_reported_though_the_service_recovers() -> None:
    async with serving(recovers=False) as service:
        assert (await failure(service.ensure("--x"))).reason == "INVALID_MODEL"
        await service.pool.recover(BUDGET)


async def test_waiters_are_asked_to_retry_when_the_service_leaves_its_servers() -> None:
    async with serving() as service:
        service.world.script("m", Script(load=NEVER))
        call = asyncio.create_task(failure(service.ensure()))
        await settled(lambda: service.world.times("ready"))
        await service.pool.leave()
        told = await call
        assert (told.code, told.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
        late = await failure(service.stub.Evict(pb.EvictRequest(all=True, force=True)))
        assert (late.code, late.reason) == ("UNAVAILABLE", "SHUTTING_DOWN")
        assert len(service.world.living) == 1
        service.world.of("m").end()


async def test_a_bug_has_a_request_id_and_keeps_its_text_to_itself() -> None:
    async with serving() as service:
        told = await a_bug(service)
        request_id = told.details["RequestInfo"].request_id
        assert request_id in told.message
        assert "secret" not in told.message
        assert "ZeroDivision" not in str(told.details)


async def test_a_bug_in_a_handler_is_reported_in_the_same_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as service:
        await service.ensure()

        def broken(*_: object) -> None:
            raise LookupError("secret")

        monkeypatch.setattr(service.pool, "page", broken)
        for told in (
            await failure(service.stub.List(pb.ListRequest())),
            await failure(service.stub.Watch(pb.WatchRequest()).read()),
        ):
            assert (told.code, told.reason) == ("INTERNAL", "INTERNAL")
            assert told.details["RequestInfo"].request_id in told.message
            assert "secret" not in told.message


@pytest.mark.parametrize("letter", ["x", "é", "\u2500", "\U0001f600", "\n"])
async def test_a_failure_fits_in_a_trailer_however_much_there_is_to_tell(letter: str) -> None:
    async with serving() as service:
        model = "m" * 512
        long = ExitReport(
            1, None, Diagnosis.MODEL_REJECTED, letter * 20_000, tuple([letter * 5000] * 20)
        )
        service.world.script(model, Script(load=NEVER, dies=0.0, report=long))
        told = await failure(service.ensure(model))
        assert told.reason == "MODEL_REJECTED"
        assert told.size < WIDEST
        assert told.details["DebugInfo"].stack_entries


async def test_of_many_last_lines_the_newest_are_reported() -> None:
    async with serving() as service:
        lines = tuple(f"line {n} " + "x" * 100 for n in range(200))
        long = ExitReport(1, None, Diagnosis.CRASHED, "died", lines)
        service.world.script("m", Script(load=NEVER, dies=0.0, report=long))
        told = await failure(service.ensure())
        entries = list(told.details["DebugInfo"].stack_entries)
        assert entries == list(lines[-len(entries) :])
        assert len(entries) >= 10


async def test_a_conflict_of_the_longest_names_fits_in_a_trailer() -> None:
    async with serving() as service:
        model = "m" * 512
        await service.ensure(model, runtime_model="a" * 4096)
        told = await failure(service.ensure(model, runtime_model="b" * 4096))
        assert told.reason == "RUNTIME_MODEL_CONFLICT"
        assert told.size < WIDEST


async def test_a_start_that_fails_with_a_long_text_fits_in_a_trailer() -> None:
    async with serving() as service:
        error = StartFailed("\u2500" * 9000, model="m", last_lines=("\u2500" * 9000,))
        service.world.script("m", Script(raises={"spawn": error}))
        told = await failure(service.ensure())
        assert told.reason == "START_FAILED"
        assert told.size < WIDEST


async def test_a_deadline_shorter_than_the_start_is_the_callers_and_the_start_goes_on() -> None:
    async with serving() as service:
        loaded = gate()
        service.world.script("m", Script(load=loaded))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Ensure(pb.EnsureRequest(model="m"), timeout=0.05)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await settled(lambda: service.pool.totals().waiting_calls == 0)
        loaded.set()
        assert (await service.ensure()).server.generation == 1
        assert len(service.world.times("spawn")) == 1


async def test_a_name_that_is_no_utf_8_is_reported_written_out() -> None:
    """As of a file on disk, whose name may be any bytes."""
    error = CodeNotTrusted("brings \udcff.py", model="m", files=("\udcff.py",))
    async with serving() as service:
        service.world.script("m", Script(raises={"estimate": error}))
        refused = await failure(service.ensure())
        assert (refused.reason, refused.message) == ("CODE_NOT_TRUSTED", r"brings \udcff.py")
        assert list((await service.stub.List(pb.ListRequest())).servers) == []
