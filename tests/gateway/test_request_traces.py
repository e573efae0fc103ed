"""Claims about the traces of requests: in their callers', and on into the service."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from multidict import CIMultiDict
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from pool_service_client import InvalidRequest
from tests.collector import TRACEPARENT, Collector, collecting
from tests.gateway.conftest import MODELS, Begin
from tests.gateway.one_server import STREAM, echo, events, setting
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import running

HOLD = "pool_service.v1.PoolService/Hold"
CHAT = "POST /v1/chat/completions"
VARIABLE = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
LIMIT_S = 60.0


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as one:
        yield one


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each span be sent at once, and nowhere but where a test says."""
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


def asks(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
        client.chat.completions.create(
            model="chat",
            messages=[{"role": "user", "content": "a secret prompt"}],
            extra_headers={"traceparent": TRACEPARENT},
        )


def chain(collector: Collector, name: str) -> list[str]:
    """Return the names of a span and of those above it."""
    by_id = {span.span_id: span for span in collector.spans}
    span = next((one for one in collector.spans if one.name == name), None)
    names = []
    while span is not None:
        names.append(span.name)
        span = by_id.get(span.parent_span_id)
    return names


@pytest.mark.process
def test_a_request_that_starts_its_model_is_one_trace_from_its_caller_to_the_start(
    begin: Begin, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, f"{collector.url}/v1/traces")
    here = begin()
    asks(here.url)
    collector.await_spans(CHAT, "start", HOLD)
    assert chain(collector, "start") == ["start", HOLD, "wait for the model", CHAT]
    (request,) = (span for span in collector.spans if span.name == CHAT)
    assert request.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert {span.trace_id.hex() for span in collector.spans} == {TRACEPARENT.split("-")[1]}
    assert collector.services == {"pool-service", "pool-service-gateway"}
    assert "secret" not in str(collector.spans)


@pytest.mark.process
def test_the_trace_of_a_caller_goes_on_in_the_service_also_without_spans_of_the_gateway(
    begin: Begin, collector: Collector
) -> None:
    here = begin(f'[trace]\nendpoint = "{collector.url}"\n{MODELS}')
    asks(here.url)
    collector.await_spans(HOLD)
    (hold,) = (span for span in collector.spans if span.name == HOLD)
    assert hold.trace_id.hex() == TRACEPARENT.split("-")[1]
    assert hold.parent_span_id.hex() == TRACEPARENT.split("-")[2]
    assert collector.services == {"pool-service"}


@pytest.mark.process
def test_the_gateway_beside_a_service_sends_its_traces_where_that_does(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_SERVICE_GATEWAY_LISTEN", "127.0.0.1:0")
    config = tmp_path / "config.toml"
    config.write_text(f'{FAKE_RUNTIME}\n[trace]\nendpoint = "{collector.url}"\n')
    arguments = ["--config", str(config), "--with-gateway"]
    with running(tmp_path / "state", arguments=arguments) as service:
        asks(_url_in(service.log))
        collector.await_spans(CHAT)
    assert collector.services == {"pool-service", "pool-service-gateway"}


def _url_in(log: Path) -> str:
    """Return the gateway's address once a service's log has it."""
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        for line in log.read_text().splitlines():
            if "http://127.0.0.1:" in line and "serving" in line:
                return next(word.partition("=")[2] for word in line.split() if "url=" in word)
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def attributes(spans: InMemorySpanExporter) -> dict[str, Any]:
    (request,) = (span for span in spans.get_finished_spans() if span.name.startswith("POST"))
    return dict(request.attributes or {})


async def test_a_span_says_what_came_of_its_request(
    spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    async with setting(events, provider=provider) as here:
        await (await here.post(json=STREAM)).read()
    found = attributes(spans)
    assert found["http.response.status_code"] == 200
    assert found["gen_ai.request.model"] == found["pool.model"] == "m"
    assert found["gen_ai.usage.output_tokens"] == 1
    assert found["pool.first_byte_s"] > 0
    assert "error.type" not in found


async def test_a_server_gets_the_span_of_the_request_as_its_callers(
    spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    async with setting(echo, provider=provider) as here:
        answer = await here.post(json={"model": "m"}, headers={"traceparent": TRACEPARENT})
        headers = (await answer.json())["headers"]
    (request,) = (span for span in spans.get_finished_spans() if span.name == CHAT)
    _, trace_id, span_id, _ = headers["traceparent"].split("-")
    assert trace_id == TRACEPARENT.split("-")[1]
    assert request.context is not None
    assert int(span_id, 16) == request.context.span_id


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, ("404", StatusCode.UNSET)), (500, ("500", StatusCode.ERROR))],
)
async def test_a_servers_error_is_the_spans(
    spans: InMemorySpanExporter,
    provider: TracerProvider,
    status: int,
    expected: tuple[str, StatusCode],
) -> None:
    async def fails(_request: web.Request) -> web.Response:
        return web.json_response({}, status=status)

    async with setting(fails, provider=provider) as here:
        await here.post(json={"model": "m"})
    (request,) = (span for span in spans.get_finished_spans() if span.name == CHAT)
    assert (attributes(spans)["error.type"], request.status.status_code) == expected


async def test_what_is_no_name_is_in_no_span(
    spans: InMemorySpanExporter, provider: TracerProvider
) -> None:
    async with setting(echo, provider=provider) as here:
        here.pool.failures["a secret prompt"] = InvalidRequest("a secret prompt is no name")
        answer = await here.post(json={"model": "a secret prompt"})
        assert answer.status == 400
    assert attributes(spans)["error.type"] == "400"
    assert "secret" not in "".join(span.to_json() for span in spans.get_finished_spans())


def traced(*headers: tuple[str, str]) -> CIMultiDict[str]:
    return CIMultiDict([("traceparent", TRACEPARENT), *headers])


async def test_a_server_gets_no_state_of_a_trace_that_is_another_one(
    provider: TracerProvider,
) -> None:
    async with setting(echo, provider=provider) as here:
        headers = CIMultiDict([("traceparent", "zz"), ("tracestate", "a=1")])
        answer = await here.post(json={"model": "m"}, headers=headers)
        seen = CIMultiDict((await answer.json())["headers"])
    assert "tracestate" not in seen
    assert len(seen.getall("traceparent")) == 1


async def test_the_state_of_a_trace_may_come_in_several_headers(provider: TracerProvider) -> None:
    async with setting(echo, provider=provider) as here:
        headers = traced(("tracestate", "a=1"), ("tracestate", "b=2"))
        answer = await here.post(json={"model": "m"}, headers=headers)
        seen = CIMultiDict((await answer.json())["headers"])
    assert seen["tracestate"] == "a=1,b=2"


async def test_two_parents_are_none(spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    async with setting(echo, provider=provider) as here:
        other = TRACEPARENT.replace("4bf9", "4bf8")
        await here.post(json={"model": "m"}, headers=traced(("traceparent", other)))
    (request,) = (span for span in spans.get_finished_spans() if span.name == CHAT)
    assert request.parent is None


async def test_a_header_of_a_trace_that_is_wrong_is_not_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with setting(echo) as here:
        answer = await here.post(
            json={"model": "m"}, headers=traced(("tracestate", "my secret prompt"))
        )
        assert answer.status == 200
    assert "secret" not in caplog.text
