"""A receiver of traces, as OpenTelemetry's collector is one."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

LIMIT_S = 60.0
"""The longest wait for what comes soon on an idle machine."""

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""A caller's span, which is sampled."""


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

    def await_spans(self, *names: str) -> None:
        """Wait until spans with these names have come."""
        end = time.monotonic() + LIMIT_S
        while not set(names) <= (come := {span.name for span in self.spans}):
            assert time.monotonic() < end, come
            time.sleep(0.02)

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def collecting(*, stalls: bool = False) -> Iterator[Collector]:
    """Run a receiver."""
    one = Collector(stalls=stalls)
    try:
        yield one
    finally:
        one.close()
