"""A stand-in for the Hugging Face hub: one repository, over HTTP on loopback.

It answers what huggingface_hub asks in order to download: the model's files with their sizes,
and each file by HEAD and GET, with ranges. `slow` holds each GET of a large file up until it is
set; `refusals` are, by a part of the path, the status and the hub's X-Error-Code that are
answered instead.
"""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What it has, and what it was asked for."""

    files: Mapping[str, bytes]
    repository: str
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    slow: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)
    endpoint: str = ""

    def environment(self, home: Path) -> dict[str, str]:
        """What a program needs to use it, with its cache under `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }

    def info(self) -> bytes:
        siblings = [
            {"rfilename": name, "size": len(content), "blobId": etag(content)}
            for name, content in self.files.items()
        ]
        told = {"id": self.repository, "modelId": self.repository, "sha": COMMIT}
        return json.dumps(told | {"private": False, "tags": [], "siblings": siblings}).encode()

    def tree(self) -> bytes:
        return json.dumps(
            [
                {"type": "file", "path": name, "size": len(content), "oid": etag(content)}
                for name, content in self.files.items()
            ]
        ).encode()


def etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = urlsplit(self.path).path
        self.server.hub.asked.append(f"{self.command} {path}")
        refused = [how for part, how in self.server.hub.refusals.items() if part in path]
        if refused:
            status, code = refused[0]
            self.send(status, b"{}", {"X-Error-Code": code} if code else {})
        elif path.startswith(f"/api/models/{self.server.hub.repository}/tree/"):
            self.send(200, self.server.hub.tree(), {"Content-Type": "application/json"})
        elif path.startswith(f"/api/models/{self.server.hub.repository}"):
            self.send(200, self.server.hub.info(), {"Content-Type": "application/json"})
        else:
            self.send_file(path, with_body=with_body)

    def send_file(self, path: str, *, with_body: bool) -> None:
        name = path.removeprefix(f"/{self.server.hub.repository}/resolve/").partition("/")[2]
        content = self.server.hub.files.get(name)
        if content is None or not path.startswith(f"/{self.server.hub.repository}/"):
            absent = {"X-Error-Code": "RepoNotFound"}
            self.send(404, b"{}", absent)
            return
        headers = {
            "ETag": f'"{etag(content)}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        if with_body and len(content) > 100_000:
            self.send_slowly(content[start:], headers, partial=start > 0)
        else:
            self.send(200, content, headers, with_body=with_body)

    def send_slowly(self, content: bytes, headers: dict[str, str], *, partial: bool) -> None:
        half = len(content) // 2
        self.head(206 if partial else 200, len(content), headers)
        self.wfile.write(content[:half])
        self.wfile.flush()
        self.server.hub.slow.wait()
        self.wfile.write(content[half:])

    def send(
        self, status: int, body: bytes, headers: dict[str, str], *, with_body: bool = True
    ) -> None:
        self.head(status, len(body), headers)
        if with_body and self.command != "HEAD":
            self.wfile.write(body)

    def head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: its books are in `asked`."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, hub: Hub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


@contextmanager
def fake_hub(files: Mapping[str, bytes], repository: str = "org/name") -> Iterator[Hub]:
    """Serve these files, as those of one repository, until the block ends."""
    hub = Hub(files, repository)
    hub.slow.set()
    server = _Server(hub)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.slow.set()
        server.shutdown()
        server.server_close()
