"""Traces of a real service, as a collector receives them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus

import grpc
import pytest
from opentelemetry.sdk.trace import TracerProvider

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import AsyncPoolClient, PoolClient
from tests.collector import TRACEPARENT, Collector, collecting
from tests.service.conftest import FAKE_RUNTIME, Start
from tools.demo.service import RunningService

PATIENCE_S = 60
"""The longest wait for what comes soon on an idle machine."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture
def stalling() -> Iterator[Collector]:
    with collecting(stalls=True) as one:
        yield one


def config(url: str) -> str:
    return f'{FAKE_RUNTIME}\n[trace]\nendpoint = "{url}"\n'


def ensure(address: str, model: str = "m") -> pb.EnsureResponse:
    with grpc.insecure_channel(address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        response: pb.EnsureResponse = stub.Ensure(
            pb.EnsureRequest(model=model), metadata=(("traceparent", TRACEPARENT),)
        )
        return response


def test_a_collector_gets_the_spans_of_a_start_at_the_latest_when_the_service_ends(
    start: Start, collector: Collector
) -> None:
    service = start(config(collector.url))
    ensure(service.address)
    service.stop()
    by_name = {span.name: span for span in collector.spans}
    call, began = by_name["pool_service.v1.PoolService/Ensure"], by_name["start"]
    assert collector.services == {"pool-service"}
    assert call.trace_id.hex() == TRACEPARENT.split("-")[1]
    assert call.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert began.parent_span_id == call.span_id
    stages = ("queue", "prepare", "spawn", "load")
    assert {by_name[stage].parent_span_id for stage in stages} == {began.span_id}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let services send each span at once, and give up a request after a second."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")


def await_line(service: RunningService, text: str) -> None:
    """Wait until the service's log has a text."""
    deadline = time.monotonic() + PATIENCE_S
    while text not in service.log.read_text():
        assert time.monotonic() < deadline, service.log.read_text()
        time.sleep(0.02)


def call_plainly(address: str) -> None:
    with PoolClient.connect(address) as pool:
        pool.ensure("m")
        with pool.hold("m") as hold:
            hold.ready()


async def call_by_asyncio(address: str) -> None:
    async with AsyncPoolClient.connect(address) as pool:
        await pool.ensure("m")
        async with pool.hold("m") as hold:
            await hold.ready()


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    "call", [call_plainly, lambda address: asyncio.run(call_by_asyncio(address))]
)
def test_the_client_tells_the_service_of_the_callers_span(
    start: Start, collector: Collector, call: Callable[[str], None]
) -> None:
    service = start(config(collector.url))
    with TracerProvider().get_tracer("test").start_as_current_span("mine") as mine:
        call(service.address)
    wanted = {f"pool_service.v1.PoolService/{method}" for method in ("Ensure", "Hold")}
    collector.await_spans(*wanted)
    calls = [span for span in collector.spans if span.name in wanted]
    own = mine.get_span_context()
    assert {int.from_bytes(span.trace_id) for span in calls} == {own.trace_id}
    assert {int.from_bytes(span.parent_span_id) for span in calls} == {own.span_id}


@pytest.mark.usefixtures("hasty")
def test_a_collector_that_is_away_is_logged_once_and_holds_up_neither_calls_nor_the_end(
    start: Start, collector: Collector
) -> None:
    url = collector.url
    collector.close()
    service = start(config(url))
    ensure(service.address, "first")
    await_line(service, "traces cannot be sent")
    for number in range(3):
        ensure(service.address, f"m{number}")
    assert service.stop() == 0
    assert service.log.read_text().count("traces cannot be sent") == 1
    assert "Traceback" not in service.log.read_text()


@pytest.mark.usefixtures("hasty")
def test_a_collector_that_works_again_gets_the_next_spans(
    start: Start, collector: Collector
) -> None:
    collector.status = HTTPStatus.BAD_REQUEST
    service = start(config(collector.url))
    ensure(service.address, "first")
    await_line(service, "traces cannot be sent")
    collector.status = HTTPStatus.OK
    ensure(service.address, "second")
    await_line(service, "traces are sent again")
    assert service.stop() == 0
    assert {span.name for span in collector.spans} >= {"start", "load"}


def test_a_collector_that_never_answers_does_not_keep_the_service_from_ending(
    start: Start, stalling: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the span is sent at once; its request is not given up.
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10000")
    service = start(config(stalling.url))
    ensure(service.address)
    assert stalling.asked.wait(PATIENCE_S)
    assert service.stop() == 0
    assert "the last traces could not be sent in time" in service.log.read_text()
