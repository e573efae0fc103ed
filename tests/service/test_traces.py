"""Traces of a real service, as a collector receives them."""

import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.service.conftest import FAKE_RUNTIME, Start
from tools.demo.service import RunningService

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATIENCE_S = 60
"""The longest wait for what comes soon on an idle machine."""

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Collector:
    """A receiver of OTLP over HTTP. stalls: it takes requests and answers none."""

    def __init__(self, *, stalls: bool = False) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.status = HTTPStatus.OK
        self.asked = threading.Event()
        self.released = threading.Event()
        if not stalls:
            self.released.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # as the library calls it
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.status == HTTPStatus.OK:
                    collector.receive(self.path, body)
                self.send_response(collector.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Keep the test's output free of requests."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def receive(self, path: str, body: bytes) -> None:
        self.asked.set()
        self.released.wait()
        assert path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.services |= {
                one.value.string_value
                for one in resource.resource.attributes
                if one.key == "service.name"
            }
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@pytest.fixture
def stalling() -> Iterator[Collector]:
    one = Collector(stalls=True)
    yield one
    one.close()


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
