"""Calls are counted by method and status, streams while they are open."""

import asyncio

import grpc
import pytest

from pool_service.metrics.call_counts import CallCounts
from pool_service.rpc.server import SERVICE
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import Service, failure, serving, settled_hold
from tests.world import NEVER, Script, settled


async def test_a_call_is_counted_by_its_method_and_its_status_with_its_time() -> None:
    counts = CallCounts()
    async with serving(counts=counts, models={}, only_listed=False) as service:
        await service.ensure()
        await service.ensure()
        await failure(service.ensure("a b "))
        await service.stub.List(pb.ListRequest())
        await failure(service.stub.List(pb.ListRequest(page_size=-1)))
        # A client has the status of a failure before the call ends.
        await settled(lambda: sum(counts.ended.values()) == 5)
    assert counts.ended == {
        ("Ensure", "OK"): 2,
        ("Ensure", "INVALID_ARGUMENT"): 1,
        ("List", "OK"): 1,
        ("List", "INVALID_ARGUMENT"): 1,
    }
    assert {method: sum(one.counts) for method, one in counts.seconds.items()} == {
        "Ensure": 3,
        "List": 2,
    }


async def test_what_is_no_message_is_counted_as_its_refusal() -> None:
    counts = CallCounts()
    async with serving(counts=counts) as service:
        raw: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        raw = service.channel.unary_unary(f"/{SERVICE}/Ensure")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await raw(b"\xff\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        await settled(lambda: counts.ended)
    assert counts.ended == {("Ensure", "INVALID_ARGUMENT"): 1}


async def test_a_call_that_its_client_gives_up_is_cancelled() -> None:
    counts = CallCounts()
    async with serving(counts=counts) as service:
        service.world.script("m", Script(load=NEVER))
        call = service.stub.Ensure(pb.EnsureRequest(model="m"))
        asking = asyncio.ensure_future(call)
        await settled(lambda: service.pool.totals().waiting_calls)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await settled(lambda: counts.ended)
        assert counts.ended == {("Ensure", "CANCELLED"): 1}


async def hold(service: Service) -> "grpc.aio.UnaryStreamCall[pb.HoldRequest, pb.HoldResponse]":
    stream: grpc.aio.UnaryStreamCall[pb.HoldRequest, pb.HoldResponse]
    stream = service.stub.Hold(pb.HoldRequest(model="m"))
    await settled_hold(stream)
    return stream


async def test_a_stream_is_counted_while_it_is_open_and_by_how_it_ends() -> None:
    counts = CallCounts()
    async with serving(counts=counts) as service:
        given_up, evicted = await hold(service), await hold(service)
        assert counts.streams == {"Hold": 2}
        given_up.cancel()
        await settled(lambda: counts.streams["Hold"] == 1)
        await service.stub.Evict(pb.EvictRequest(model="m", force=True))
        with pytest.raises(grpc.aio.AioRpcError):
            await evicted.read()
        await settled(lambda: counts.streams["Hold"] == 0)
        ended = {key: count for key, count in counts.ended.items() if key[0] == "Hold"}
        assert ended == {("Hold", "CANCELLED"): 1, ("Hold", "ABORTED"): 1}
    assert "Hold" not in counts.seconds, "a stream is as long as its client wants it"


async def test_calls_of_other_services_are_not_counted() -> None:
    counts = CallCounts()
    async with serving(counts=counts) as service:
        health: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        health = service.channel.unary_unary("/grpc.health.v1.Health/Check")
        await health(b"")
    assert counts.ended == {}
