"""A model's server on loopback that answers chat completions as its script says."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DONE = "data: [DONE]\n\n"


class Break:
    """Closes the connection without the end of the answer."""


class Wait:
    """Says nothing more until the caller has gone, or for 20 s. reached: it has come to this."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.left = threading.Event()


@dataclass(frozen=True)
class Status:
    """An answer that is none."""

    code: int
    body: str = "{}"


Step = str | Break | Wait | Status


@dataclass
class Answering:
    """What it was asked, and its answers: the last one is repeated."""

    port: int = 0
    close: Callable[[], None] = lambda: None
    asked: list[dict[str, Any]] = field(default_factory=list)
    shown: list[str | None] = field(default_factory=list)
    answers: deque[tuple[Step, ...]] = field(default_factory=deque)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, *steps: Step) -> None:
        """One answer: pieces of text, then how it ends if not as it should."""
        self.answers.append(steps)

    def next(self, request: dict[str, Any]) -> tuple[Step, ...]:
        """The steps of the answer to a request."""
        self.asked.append(request)
        return self.answers.popleft() if len(self.answers) > 1 else self.answers[0]

    def said(self, number: int) -> list[tuple[str, str]]:
        """The messages of one request."""
        return [(one["role"], one["content"]) for one in self.asked[number]["messages"]]


def event(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


class Handler(BaseHTTPRequestHandler):
    """Plays the script of its server."""

    server: "Server"

    def do_POST(self) -> None:  # as the library calls it
        assert self.path == "/v1/chat/completions"
        self.server.script.shown.append(self.headers["Authorization"])
        length = int(self.headers["Content-Length"])
        steps = self.server.script.next(json.loads(self.rfile.read(length)))
        if isinstance(steps[0], Status):
            self.send_response(steps[0].code)
            self.end_headers()
            self.wfile.write(steps[0].body.encode())
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b": it comes\n\n")
        if all(self._play(step) for step in steps):
            self.wfile.write(DONE.encode())

    def _play(self, step: Step) -> bool:
        """Whether the answer goes on after it."""
        if isinstance(step, Wait):
            step.reached.set()
            self.connection.settimeout(20)
            self.connection.recv(1)
            step.left.set()
        if isinstance(step, str):
            self.wfile.write(event(step).encode())
        return isinstance(step, str)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # as it is called
        """Nothing: stderr is the test's."""


class Server(ThreadingHTTPServer):
    def __init__(self, script: Answering) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script


@contextmanager
def answering() -> Iterator[Answering]:
    """Run one within the block."""
    script = Answering()
    with Server(script) as server:
        script.port, script.close = server.server_port, server.server_close
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield script
        finally:
            server.shutdown()
            thread.join()
