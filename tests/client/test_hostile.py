"""Claims about a server that is broken or hostile: no busy loop, no end without an error."""

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import RetryInfo
from grpc import StatusCode

from pool_service_client import PoolError, RetryPolicy
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client, Connect
from tests.client.scripted import Refusal, Script, ready

MOST_TRIES = 6
"""Within a second: after 0.1, 0.2 and 0.4 s, and the first."""


@pytest.mark.parametrize(
    "delay",
    [
        Duration(),
        Duration(seconds=-5, nanos=-999_999_999),
        Duration(nanos=1),
        Duration(seconds=-315_576_000_000),
        Duration(nanos=-2_147_483_648),
    ],
    ids=["none", "negative", "tiny", "most negative", "nanos out of range"],
)
async def test_a_retry_delay_of_nothing_or_less_is_no_busy_loop(
    connect: Connect, service: Script, delay: Duration
) -> None:
    service.answer(
        "Ensure",
        Refusal(StatusCode.UNAVAILABLE, "no", "RECOVERING", (RetryInfo(retry_delay=delay),)),
    )
    client = connect(service.address, RetryPolicy(patience=1.0))
    with pytest.raises(PoolError) as raised:
        await client.call("ensure", "m")
    assert raised.value.reason == "RECOVERING"
    assert len(service.asked["Ensure"]) <= MOST_TRIES


@pytest.mark.parametrize("seconds", [315_576_000_000, 2**62])
async def test_a_retry_delay_of_for_ever_is_told_at_once(
    client: Client, service: Script, seconds: int
) -> None:
    info = RetryInfo(retry_delay=Duration(seconds=seconds))
    service.answer("Ensure", Refusal(StatusCode.UNAVAILABLE, "no", "RECOVERING", (info,)))
    with pytest.raises(PoolError):
        await client.call("ensure", "m")
    assert len(service.asked["Ensure"]) == 1


async def test_details_that_are_garbage_are_passed_over(client: Client, service: Script) -> None:
    garbage = Packed(type_url="type.googleapis.com/google.rpc.RetryInfo", value=b"\xff\xff")
    service.answer("Ensure", Refusal(StatusCode.ABORTED, "evicted", "EVICTED", (garbage,)))
    with pytest.raises(PoolError):
        await client.call("ensure", "m")


@pytest.mark.parametrize("tokens", [["again"], ["a", "b", "a"]])
async def test_pages_that_come_again_are_an_error(
    client: Client, service: Script, tokens: list[str]
) -> None:
    for token in tokens:
        service.answer("List", pb.ListResponse(servers=[ready()], next_page_token=token))
        service.answer("ListModels", pb.ListModelsResponse(next_page_token=token))
    for read in (client.servers, client.models):
        with pytest.raises(PoolError, match="its pages have no end"):
            await read()


async def test_an_answer_without_a_server_is_an_error(client: Client, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse())
    with pytest.raises(PoolError, match="names no server"):
        await client.call("ensure", "m")


async def test_a_time_that_no_calendar_has_is_none(client: Client, service: Script) -> None:
    server = ready()
    server.create_time.CopyFrom(Timestamp(seconds=2**62, nanos=-5))
    service.answer("Ensure", pb.EnsureResponse(server=server))
    assert (await client.call("ensure", "m")).server.create_time is None
