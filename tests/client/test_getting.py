"""Looks at one model's server, by both clients: Get, and the progress of an ensure."""

import asyncio

import grpc.aio
import pytest
from grpc import StatusCode

from pool_service_client import DeadlineExceeded, Found, Server, ServerState, aio, sync
from pool_service_client import progress as progress_module
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client
from tests.client.scripted import Gate, Refusal, Script, Stay, ready, retry_after, starting

INTERVAL_S = 0.01


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (progress_module, sync, aio):
        monkeypatch.setattr(module, "INTERVAL_S", INTERVAL_S)


class RpcFailure(grpc.aio.AioRpcError):
    """A failure of another call, which the callback has made."""

    def __init__(self) -> None:
        Exception.__init__(self, "another call has failed")


def seen(**fields: object) -> pb.GetResponse:
    return pb.GetResponse(server=starting(**fields).server)  # type: ignore[arg-type]


async def test_get_returns_the_server_and_whether_it_answers(
    client: Client, service: Script
) -> None:
    service.answer("Get", pb.GetResponse(server=ready(), answers=True))
    found: Found = await client.call("get", "m", check=True)
    assert found.server is not None
    assert (found.server.model, found.answers) == ("m", True)
    assert service.asked["Get"] == [pb.GetRequest(model="m", check=True)]


async def test_get_of_a_model_without_a_server_returns_none(
    client: Client, service: Script
) -> None:
    service.answer("Get", pb.GetResponse())
    assert await client.call("get", "m") == Found(None, answers=False)


async def test_get_is_retried_as_every_call_is(client: Client, service: Script) -> None:
    service.answer("Get", Refusal(StatusCode.UNAVAILABLE, "", "RECOVERING", (retry_after(0.01),)))
    service.answer("Get", pb.GetResponse())
    assert (await client.call("get", "m")).server is None


async def test_the_base_url_is_the_endpoint_with_v1(client: Client, service: Script) -> None:
    service.answer("Get", pb.GetResponse(server=ready(endpoint="http://127.0.0.1:7")))
    service.answer("Get", pb.GetResponse(server=starting().server))
    first, second = [(await client.call("get", "m")).server for _ in range(2)]
    assert (first.base_url, second.base_url) == ("http://127.0.0.1:7/v1", "")


async def test_an_ensure_that_waits_tells_each_state_once_and_never_ready(
    client: Client, service: Script
) -> None:
    told: list[Server] = []
    arrived, started = asyncio.Event(), Gate()
    loop = asyncio.get_running_loop()

    def tell(server: Server) -> None:
        told.append(server)
        if server.progress == 0.5:
            loop.call_soon_threadsafe(arrived.set)

    service.answer("Ensure", started, pb.EnsureResponse(server=ready(), started=True))
    for look in (
        *(pb.GetResponse(), seen(queue_position=2), seen(queue_position=2)),
        *(Refusal(StatusCode.UNAVAILABLE, "away"), pb.GetResponse(server=ready())),
        *(seen(progress=0.5), seen(progress=0.5)),
    ):
        service.answer("Get", look)
    ensuring = asyncio.create_task(client.call("ensure", "m", on_progress=tell))
    await arrived.wait()
    started.open()
    assert (await ensuring).started
    assert [(one.queue_position, one.progress) for one in told] == [(2, None), (0, 0.5)]
    assert all(request == pb.GetRequest(model="m") for request in service.asked["Get"])


async def test_an_ensure_of_a_ready_model_looks_at_nothing(
    client: Client, service: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (sync, aio):
        monkeypatch.setattr(module, "INTERVAL_S", 60.0)
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    ensured = await client.call("ensure", "m", on_progress=lambda _: None)
    assert ensured.server.state is ServerState.READY
    assert "Get" not in service.asked


@pytest.mark.parametrize("error", [ZeroDivisionError, RpcFailure])
async def test_an_error_of_the_callback_ends_the_call(
    client: Client, service: Script, error: type[Exception]
) -> None:
    waiting = Stay()
    service.answer("Ensure", waiting)
    service.answer("Get", seen(progress=0.1))

    def fail(_: Server) -> None:
        raise error

    with pytest.raises(error):
        await client.call("ensure", "m", on_progress=fail)
    assert await asyncio.to_thread(waiting.left.wait, 60.0)


async def test_a_timeout_counts_with_progress_too(client: Client, service: Script) -> None:
    service.answer("Ensure", Stay())
    service.answer("Get", seen())
    with pytest.raises(DeadlineExceeded):
        await client.call("ensure", "m", on_progress=lambda _: None, timeout=0.2)


async def test_an_ensure_with_progress_is_retried(client: Client, service: Script) -> None:
    service.answer(
        "Ensure", Refusal(StatusCode.UNAVAILABLE, "", "START_FAILED", (retry_after(0.01),))
    )
    service.answer("Ensure", pb.EnsureResponse(server=ready(), started=True))
    service.answer("Get", pb.GetResponse())
    assert (await client.call("ensure", "m", on_progress=lambda _: None)).started
