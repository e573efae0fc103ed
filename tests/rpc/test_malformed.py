"""Claims about requests that are no protobuf, and callers that are gone before the answer."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # has no types
from structlog.testing import capture_logs

from pool_service.access.principal import LOCAL, Principal
from pool_service.event_records import Call
from pool_service.rpc.answering import streaming, unary
from pool_service.rpc.server import LARGEST_REQUEST_BYTES, SERVICE
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import Failure, Service, failure, serving

GARBAGE = {
    "a length without an end": b"\x0a\xff\xff\xff\xff\x0f",
    "half a message": b"\x0a\x05ab",
    "a group without an end": b"\x0b\x0b\x0b",
    "only a tag": b"\x0a",
    "deep groups": b"\x0b" * 10_000,
}
METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["PoolService"].methods}
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


async def raw_failure(
    service: Service, path: str, request: bytes, *, streams: bool = False
) -> Failure:
    """What a caller is told who sends these bytes."""
    channel: Any = service.channel
    if not streams:
        return await failure(channel.unary_unary(f"/{path}")(request))
    return await failure(channel.unary_stream(f"/{path}")(request).read())


@pytest.mark.parametrize("request_bytes", GARBAGE.values(), ids=GARBAGE.keys())
async def test_a_malformed_request_of_each_call_is_an_invalid_argument_with_its_reason(
    request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as service:
        for name, method in METHODS.items():
            path, streams = f"{SERVICE}/{name}", bool(method.server_streaming)
            told = await raw_failure(service, path, request_bytes, streams=streams)
            assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST"), name
            assert told.details["ErrorInfo"].domain == "pool_service"
            assert "proto file" in told.message
        assert service.world.calls == []
    assert caplog.records == []


async def test_text_that_is_no_utf8_is_malformed() -> None:
    async with serving() as service:
        told = await raw_failure(service, f"{SERVICE}/Ensure", b"\x0a\x02\xff\xfe")
        assert told.reason == "INVALID_REQUEST"


async def test_health_and_reflection_refuse_malformed_requests_alike(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving() as service:
        tag = GARBAGE["only a tag"]
        told = [
            await raw_failure(service, f"{HEALTH}/Check", tag),
            await raw_failure(service, f"{HEALTH}/Watch", tag, streams=True),
        ]
        channel: Any = service.channel
        told.append(await failure(channel.stream_stream(f"/{REFLECTION}")(iter([tag])).read()))
        assert {one.code for one in told} == {"INVALID_ARGUMENT"}
        assert {one.reason for one in told} == {"INVALID_REQUEST"}
    assert caplog.records == []


async def test_many_malformed_requests_are_one_line_in_the_log() -> None:
    async with serving() as service:
        with capture_logs() as lines:
            for _ in range(50):
                await raw_failure(service, f"{SERVICE}/Ensure", GARBAGE["only a tag"])
    told = [line for line in lines if line["event"] == "malformed request refused"]
    assert [(line["method"], line["requests"]) for line in told] == [(f"{SERVICE}/Ensure", 1)]


async def test_a_call_that_is_not_known_is_unimplemented() -> None:
    async with serving() as service:
        for path in (f"{SERVICE}/Nothing", "no.Service/Ensure", f"{HEALTH}/List"):
            assert (await raw_failure(service, path, b"\xff")).code == "UNIMPLEMENTED"


async def test_a_request_that_is_too_large_is_not_read(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as service:
        large = b"\0" * (LARGEST_REQUEST_BYTES + 1)
        told = await raw_failure(service, f"{SERVICE}/Ensure", large)
        assert told.code == "RESOURCE_EXHAUSTED"
    assert caplog.records == []


async def test_a_request_that_is_well_formed_after_a_malformed_one_is_served() -> None:
    async with serving() as service:
        await raw_failure(service, f"{SERVICE}/Ensure", GARBAGE["half a message"])
        assert (await service.ensure(keep_alive=Duration(seconds=60))).started


# --- callers who are gone -------------------------------------------------------------------


class Gone:
    """The context of a call whose caller is gone, before gRPC has cancelled it."""

    def peer(self) -> str:
        return "unix:"

    async def write(self, _response: object) -> None:
        raise cygrpc.ExecuteBatchError("Failed grpc_call_start_batch")

    principal = LOCAL

    async def abort_with_status(self, _status: object) -> None:
        raise cygrpc.ExecuteBatchError("Failed grpc_call_start_batch")


class Servicer:
    def called(self, method: str, _request: object, _context: object) -> Call:
        return Call(method, "", "")

    def abandon(self, call: Call) -> None:
        """Keep nothing."""

    def refuse(self, error: Exception, call: Call, _principal: Principal) -> None:
        assert not isinstance(error, grpc.aio.BaseError), f"{call.method} is told as a bug"

    @streaming
    async def follow(
        self, request: pb.ListRequest, _context: object
    ) -> AsyncGenerator[pb.ListRequest]:
        yield request

    @streaming
    async def broken(
        self, request: pb.ListRequest | None, _context: object
    ) -> AsyncGenerator[pb.ListRequest]:
        if request is not None:
            raise ValueError(request)
        yield pb.ListRequest()

    @unary
    async def ask(self, request: pb.ListRequest | None, _context: object) -> pb.ListResponse:
        if request is not None:
            raise ValueError(request)
        return pb.ListResponse()


@pytest.mark.parametrize("method", ["follow", "broken", "ask"])
async def test_a_caller_that_is_gone_before_its_answer_is_no_bug(method: str) -> None:
    call: Any = getattr(Servicer(), method)
    with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await call(b"", Gone())
    assert lines == []


async def test_grpc_does_not_log_what_callers_do_as_bugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving():
        log = logging.getLogger("grpc._cython.cygrpc")
        header = UnicodeDecodeError("utf-8", b"\xa1", 0, 1, "invalid start byte")
        for error in (cygrpc.ExecuteBatchError("gone"), header, ValueError("a bug")):
            log.error("raised", exc_info=error)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ValueError]
