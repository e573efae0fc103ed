"""What comes over the wire, as the values that callers see."""

from typing import Any

import pytest
from grpc import StatusCode

from pool_service_client import (
    AsyncPoolClient,
    CrashLoop,
    ExitCause,
    Expectation,
    RetryPolicy,
    ServerState,
    convert,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client, Connect
from tests.client.scripted import Refusal, Script, ready, retry_after


@pytest.mark.parametrize(
    ("mine", "wire", "prefix"),
    [
        (ServerState, pb.ServerState, "SERVER_STATE_"),
        (ExitCause, pb.ExitCause, "EXIT_CAUSE_"),
        (Expectation, pb.Expectation, "EXPECTATION_"),
    ],
)
def test_every_name_of_the_wire_has_its_member(mine: type, wire: type, prefix: str) -> None:
    named = {name.removeprefix(prefix): number for name, number in wire.items()}  # type: ignore[attr-defined]
    assert {member.name: member.value for member in mine} == named  # type: ignore[attr-defined]


def test_every_count_of_the_wire_is_reported() -> None:
    names = [field.name for field in pb.PoolTotals.DESCRIPTOR.fields]
    counts: dict[str, Any] = {name: number for number, name in enumerate(names, 1)}
    counts["memory_pressured"] = True
    page = convert.page(pb.ListResponse(totals=pb.PoolTotals(**counts)))
    assert {name: getattr(page.totals, name) for name in names} == counts


def test_a_page_reports_what_the_service_cannot_do() -> None:
    assert convert.page(pb.ListResponse()).notices == ()
    assert convert.page(pb.ListResponse(notices=["no disk", "b"])).notices == ("no disk", "b")


async def test_notices_come_with_each_page(service: Script) -> None:
    service.answer("List", pb.ListResponse(notices=["no disk"]))
    async with AsyncPoolClient.connect(service.address) as pool:
        assert [page.notices async for page in pool.pages()] == [("no disk",)]


async def test_a_service_that_is_recovering_is_asked_again(client: Client, service: Script) -> None:
    recovering = Refusal(StatusCode.UNAVAILABLE, "soon", "RECOVERING", (retry_after(0.01),))
    service.answer("Ensure", recovering)
    service.answer("Ensure", recovering)
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    assert (await client.call("ensure", "m")).server.endpoint
    assert len(service.ensured) == 3


async def test_a_crash_loop_longer_than_the_patience_is_reported_at_once(
    connect: Connect, service: Script
) -> None:
    loop = Refusal(StatusCode.FAILED_PRECONDITION, "died", "CRASH_LOOP", (retry_after(30),))
    service.answer("Ensure", loop)
    client = connect(service.address, RetryPolicy(patience=20.0))
    with pytest.raises(CrashLoop) as raised:
        await client.call("ensure", "m")
    assert raised.value.retry_after == 30.0
    assert len(service.ensured) == 1
