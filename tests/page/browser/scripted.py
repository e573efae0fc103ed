"""A service that answers the page what a test says: in any order, and at any time."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from queue import Empty, Queue
from typing import Any, cast

from pool_service.page.files import TYPES

FILES = files("pool_service.page").joinpath("files")
REVISION = 100
GIB = 1 << 30
HEARTBEAT_S = 5.0

Json = dict[str, Any]


def key(model: str, generation: int = 1) -> Json:
    return {"model": model, "generation": str(generation)}


def server(model: str = "m", state: str = "READY", role: str = "CURRENT", **values: object) -> Json:
    """A server as Watch tells it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    known = {
        "state": f"SERVER_STATE_{state}",
        "role": f"SERVER_ROLE_{role}",
        "runtime_model": model,
    }
    sizes = {"expected_bytes": str(GIB), "footprint_bytes": "0", "peak_bytes": "0"}
    use = {"holds": 0, "pinned": False, "last_use_time": now, "queue_position": 0, "detail": ""}
    return key(model) | known | sizes | use | values


def use(model: str = "m", state: str = "READY", role: str = "CURRENT", **values: object) -> Json:
    """A server as polling tells it."""
    known = {"state": f"SERVER_STATE_{state}", "role": f"SERVER_ROLE_{role}", "pinned": False}
    sizes = {"expected_bytes": GIB, "footprint_bytes": 0, "peak_bytes": 0}
    used = {"holds": 0, "waiting_calls": 0, "place": 0, "busy": False, "expire_time": None}
    return key(model) | known | sizes | used | {"last_use_time": time.time()} | values


def listed(model: str = "m", state: str = "UNSPECIFIED", **values: object) -> Json:
    """A model of the configuration."""
    known = {"aliases": [], "runtime_model": model, "pinned": False, "problem": ""}
    state = f"SERVER_STATE_{state}"
    return {"model": model, "state": state, "expected_bytes": "0"} | known | values


def described(**values: object) -> Json:
    """A model as Describe tells it."""
    lists = ("servers", "holders", "waiting", "next_to_go", "runs", "decisions", "settings")
    sizes = {"expected_bytes": "0", "expected_by": "EXPECTATION_UNKNOWN"}
    return {name: [] for name in lists} | sizes | values


class Scripted(ThreadingHTTPServer):
    """Answers calls by `answers`: a function of the request for each.

    Watch tells events, each once, on the connection that was begun last; watches: how many there
    were.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.models: list[Json] = []
        self._events: Queue[Json | None] = Queue()
        self._lock = threading.Lock()
        self.watches = 0
        self.revision = REVISION
        self.now: Callable[[], float] = time.time
        self.usage: Json = {"revision": str(REVISION), "servers": [], "memory_current": True}
        self.totals: Json = {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 32 * GIB}
        self.changes: Json = {"changes": [], "since": time.time() - 7200}
        self.answers: dict[str, Callable[[Json], Json]] = {
            "Usage": lambda _request: self.told(self.usage),
            "ListModels": self.listing,
            "Changes": lambda _request: self.change_record(),
            "TailLogs": lambda _request: {},
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Tell errors but those of a page that is closed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def told(self, usage: Json) -> Json:
        """An answer of Usage; servers may be fewer than a real one tells."""
        totals = {"memory_reserved_bytes": 0, "memory_pressured": False} | self.totals
        return {"totals": totals, "notices": [], "now": self.now()} | usage

    def listing(self, request: Json) -> Json:
        """A page of the models."""
        first = int(request["page_token"] or 0)
        end = first + request["page_size"]
        token = str(end) if end < len(self.models) else ""
        return {"models": self.models[first:end], "next_page_token": token}

    def change_record(self) -> Json:
        began = {"whole": True, "cursor": "c", "began": self.now() - 7200, "now": self.now()}
        return began | self.changes

    def tell(self, **event: Json) -> None:
        """Tell the next change by Watch."""
        self.revision += 1
        self.put({"revision": str(self.revision)} | event)

    def put(self, event: Json) -> None:
        """Tell a line by Watch; an error ends its connection."""
        with self._lock:
            self._events.put(event)

    def follow(self) -> "Queue[Json | None]":
        """Return the events that a new connection tells; the one before gets None, and no more."""
        with self._lock:
            self.watches += 1
            before, self._events = self._events, Queue()
            while not before.empty():
                self._events.put(before.get())
            before.put(None)
            return self._events

    def begin(self, *servers: Json) -> None:
        """Tell the servers that are there."""
        for one in servers:
            self.put({"revision": str(REVISION), "server": one})
        self.put({"revision": str(REVISION), "synced": {}})


class Handler(BaseHTTPRequestHandler):
    """Answers one connection to a scripted service."""

    protocol_version = "HTTP/1.1"

    @property
    def script(self) -> Scripted:
        return cast("Scripted", self.server)

    def do_GET(self) -> None:
        name = self.path.strip("/") or "index.html"
        file = FILES.joinpath(name)
        self.answer(file.read_bytes(), TYPES["." + name.rpartition(".")[2]])

    def do_POST(self) -> None:
        method = self.path.removeprefix("/api/")
        body = self.rfile.read(int(self.headers["content-length"]))
        request = json.loads(body) if body.startswith(b"{") else {}
        if method == "Watch":
            self.watch()
            return
        answer = self.script.answers[method](request)
        failed = int(answer.pop("status", 200))
        self.answer(json.dumps(answer).encode(), "application/json", failed)

    def watch(self) -> None:
        """Tell events until one is an error, or another connection tells them."""
        events = self.script.follow()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for line in lines(events):
            self.wfile.write(line + b"\n")
            self.wfile.flush()

    def answer(self, body: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def lines(events: "Queue[Json | None]") -> Iterator[bytes]:
    """Yield the lines of events until an error or None, and empty ones while none comes."""
    while True:
        try:
            event = events.get(timeout=HEARTBEAT_S)
        except Empty:
            yield b""
            continue
        if event is None:
            return
        yield json.dumps(event).encode()
        if "error" in event:
            return


@contextmanager
def scripted() -> Iterator[Scripted]:
    """A scripted service for as long as the block runs."""
    with Scripted() as service:
        thread = threading.Thread(target=service.serve_forever)
        thread.start()
        try:
            yield service
        finally:
            service.shutdown()
            thread.join()
