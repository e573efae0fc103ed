"""Servers of models that misbehave on demand, for what clients do when connections break."""

import json
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import ready

CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "delta": {"content": "t"}, "finish_reason": None}],
}


class Server(ThreadingHTTPServer):
    """A model server.

    behaviour: "answers", or what it does to a request: "resets" its connection, "cuts" it in the
    middle of the answer, "redirects", or "stalls" before its answer until it `goes_on`. asked: the
    headers of its requests. arrived: gets a token for each of them.
    """

    daemon_threads = True

    def __init__(self, behaviour: str = "answers") -> None:
        super().__init__(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server_bind()
        self.behaviour = behaviour
        self.asked: list[dict[str, str]] = []
        self.arrived: queue.Queue[None] = queue.Queue()
        self.goes_on = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def serving(self) -> Iterator["Server"]:
        """Serve in a thread until the block ends."""
        with self:
            self.server_activate()
            thread = threading.Thread(target=self.serve_forever)
            thread.start()
            yield self
            self.shutdown()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append({**self.headers, "path": self.path})
        if self.server.behaviour == "resets":
            self._reset()
            return
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        if self.server.behaviour == "cuts":
            self.wfile.write(b"w")
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(b"well")

    def do_POST(self) -> None:
        self.server.asked.append({**self.headers, "path": self.path})
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.arrived.put(None)
        if self.server.behaviour == "stalls":
            self.server.goes_on.wait()
        if self.server.behaviour == "resets":
            self._reset()
            return
        if self.server.behaviour == "redirects":
            self.send_response(307)
            self.send_header("Location", f"{self.server.endpoint}/v1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send(f"data: {json.dumps(CHUNK)}\n\n".encode())
        if self.server.behaviour == "cuts":
            self._reset()
            return
        self._send(b"data: [DONE]\n\n")
        self._send(b"")

    def _send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def nobody() -> str:
    """An endpoint at which nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


def state(endpoint: str, generation: int = 1, api_key: str = "") -> pb.HoldResponse:
    told = ready(endpoint=endpoint, generation=generation, pid=generation)
    return pb.HoldResponse(server=told, api_key=api_key)
