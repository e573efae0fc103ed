"""Databases of vulnerabilities on this machine, which know what a test says."""

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Database:
    """A database behind an address.

    known: what it knows of packages, by their names; is_down: whether it answers with an error.
    """

    address: str
    known: dict[str, Any] = field(default_factory=dict)
    is_down: bool = False

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of npm's, or of a client of OSV."""
        if "package" in question:
            known = self.known.get(question["package"]["name"])
            return {"vulns": [known]} if known else {}
        return {name: [self.known[name]] for name in question if name in self.known}


@pytest.fixture
def database() -> Iterator[Database]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            self.reply(503 if served.is_down else 200, served.answer(json.loads(body)))

        def do_GET(self) -> None:
            self.reply(404, {})

        def reply(self, code: int, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Database(f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield served
        server.shutdown()
        thread.join()
