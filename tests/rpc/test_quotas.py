"""The limits of one caller are reached by its own calls alone, and end nobody else's."""

from collections.abc import Sequence
from dataclasses import replace

import grpc

from pool_service.access import tokens
from pool_service.access.authentication import Local, Rules
from pool_service.access.clients import Client, Clients
from pool_service.access.principal import CallerLimits, Principal, Scope
from pool_service.core.server import Phase, StopSignal
from pool_service.v1 import pool_service_pb2 as pb
from tests.pool.running import LIMITS
from tests.rpc.serving import Failure, failure, failure_of, serving, settled_hold
from tests.world import NEVER, Script, settled

NAMES = ("engine", "other")
TOKENS = {name: tokens.new_token() for name in NAMES}


def shows(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {TOKENS[name]}"),)


ENGINE, OTHER = shows("engine"), shows("other")


def rules(**limits: float) -> Rules:
    """Two callers that may start what is listed, within these limits."""
    clients = (
        Client(
            Principal(name, Scope.ADMIN, logs=True, limits=CallerLimits(**limits)),
            tokens.digest(token),
        )
        for name, token in TOKENS.items()
    )
    return Rules(Local.TOKEN, Clients(clients))


async def refusal(call: grpc.aio.UnaryStreamCall[object, object]) -> Failure:
    """How a stream is refused at its beginning."""
    try:
        await call.read()
    except grpc.aio.AioRpcError as error:
        return failure_of(error)
    raise AssertionError("it is not refused")


def is_quota(refused: Failure, limit: str) -> bool:
    """Whether a refusal is about a limit, and says which and when to try again."""
    told = refused.details["ErrorInfo"]
    return (
        (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
        and (told.metadata["limit"], told.metadata["most"]) == (limit, "1")
        and refused.details["RetryInfo"].retry_delay.ToNanoseconds() > 0
        and refused.details["QuotaFailure"].violations[0].subject == limit
    )


async def test_holds_count_as_long_as_they_are_open() -> None:
    async with serving(rules=rules(holds=1)) as service:
        hold = pb.HoldRequest(model="m")
        first = service.stub.Hold(hold, metadata=ENGINE)
        await settled_hold(first)
        assert is_quota(await refusal(service.stub.Hold(hold, metadata=ENGINE)), "holds")
        theirs = service.stub.Hold(hold, metadata=OTHER)
        await settled_hold(theirs)
        first.cancel()
        await settled(lambda: service.pool.page(None, 1)[0].holds == 1)
        again = service.stub.Hold(hold, metadata=ENGINE)
        await settled_hold(again)
        theirs.cancel()
        again.cancel()


async def test_calls_that_wait_are_limited_and_those_that_need_not_wait_are_answered() -> None:
    async with serving(rules=rules(waiting=1)) as service:
        service.world.script("n", Script(load=NEVER))
        await service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=ENGINE)
        waiting = service.stub.Ensure(pb.EnsureRequest(model="n"), metadata=ENGINE)
        await settled(lambda: service.pool.totals().waiting_calls == 1)
        slow = pb.EnsureRequest(model="n")
        assert is_quota(await failure(service.stub.Ensure(slow, metadata=ENGINE)), "waiting")
        await service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=ENGINE)
        await service.stub.Ensure(pb.EnsureRequest(model="o"), metadata=OTHER)
        waiting.cancel()
        await settled(lambda: service.pool.totals().waiting_calls == 0)
        await service.stub.Ensure(pb.EnsureRequest(model="o"), metadata=ENGINE)


async def test_streams_are_limited() -> None:
    async with serving(rules=rules(streams=1)) as service:
        watch = service.stub.Watch(pb.WatchRequest(), metadata=ENGINE)
        await watch.read()
        streams: Sequence[grpc.aio.UnaryStreamCall[object, object]] = (
            service.stub.Watch(pb.WatchRequest(), metadata=ENGINE),
            service.stub.Pull(pb.PullRequest(model="m"), metadata=ENGINE),
            service.stub.TailLogs(pb.TailLogsRequest(model="m"), metadata=ENGINE),
        )
        for stream in streams:
            assert is_quota(await refusal(stream), "streams")
        theirs = service.stub.Watch(pb.WatchRequest(), metadata=OTHER)
        await theirs.read()
        watch.cancel()
        theirs.cancel()


async def test_servers_that_are_started_for_a_caller_keep_within_its_share() -> None:
    limits = replace(LIMITS, memory_budget=2)
    async with serving(rules=rules(memory_share=0.5), limits=limits, grace_period=0.0) as service:
        for model, size in (("small", 1), ("next", 1), ("large", 2)):
            service.world.script(model, Script(load=0.0, needs=size, takes=size, requests=0))
        large = pb.EnsureRequest(model="large")
        assert is_quota(await failure(service.stub.Ensure(large, metadata=ENGINE)), "memory_share")
        held = service.stub.Hold(pb.HoldRequest(model="large"), metadata=ENGINE)
        await held.read()
        assert is_quota(await refusal(held), "memory_share")
        for model in ("small", "next"):
            await service.stub.Ensure(pb.EnsureRequest(model=model), metadata=ENGINE)
        assert [one.model for one in service.pool.page(None, 9) if one.takes_memory] == ["next"]


async def test_starts_are_limited_and_calls_that_start_nothing_are_not() -> None:
    async with serving(rules=rules(starts_per_minute=1)) as service:
        await service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=ENGINE)
        second = pb.EnsureRequest(model="n")
        assert is_quota(await failure(service.stub.Ensure(second, metadata=ENGINE)), "starts")
        held = service.stub.Hold(pb.HoldRequest(model="n"), metadata=ENGINE)
        assert is_quota(await refusal(held), "starts")
        assert service.pool.totals().servers == 1
        for metadata in (ENGINE, OTHER):
            await service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=metadata)
        await service.stub.Ensure(second, metadata=OTHER)
        # Somebody else has started it.
        await service.stub.Ensure(second, metadata=ENGINE)


async def test_a_start_after_an_eviction_counts_though_the_server_still_ends() -> None:
    async with serving(rules=rules(starts_per_minute=1)) as service:
        service.world.script("m", Script(load=0.0, ends_on={StopSignal.TERMINATE: NEVER}))
        again = pb.EnsureRequest(model="m")
        await service.stub.Ensure(again, metadata=ENGINE)
        evict = service.stub.Evict(pb.EvictRequest(model="m", force=True), metadata=ENGINE)
        await settled(lambda: service.pool.page(None, 1)[0].phase is Phase.STOPPING)
        assert is_quota(await failure(service.stub.Ensure(again, metadata=ENGINE)), "starts")
        service.world.of("m").end()
        await evict
