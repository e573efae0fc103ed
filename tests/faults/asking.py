"""Requests to a server, straight to its endpoint."""

import contextlib
import http.client
import json
import threading
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from pool_service_client import Server


def complete(server: Server, tokens: int) -> int:
    """Ask for that many tokens, without streaming; how many came."""
    return completed(ask(server, tokens))


def headers_for(server: Server) -> dict[str, str]:
    """The headers of a request with JSON."""
    return {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"}


def ask(server: Server, tokens: int) -> http.client.HTTPConnection:
    """Ask for that many tokens, without streaming; the answer is read by `completed`."""
    url = urlsplit(server.endpoint)
    body = {
        "model": server.served_model_name,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    connection = http.client.HTTPConnection(url.hostname or "", url.port)
    sent = headers_for(server)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), sent)
    return connection


def completed(connection: http.client.HTTPConnection) -> int:
    """Read the answer to its end; how many tokens came."""
    with contextlib.closing(connection), connection.getresponse() as response:
        assert response.status == http.client.OK
        answer: Any = json.load(response)
    count: int = answer["usage"]["completion_tokens"]
    return count


class Stream:
    """A completion that comes token by token, read in a thread of its own."""

    def __init__(self, server: Server, tokens: int) -> None:
        body = {
            "model": server.served_model_name,
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
        }
        self._request = urllib.request.Request(
            f"{server.endpoint}/v1/chat/completions",
            json.dumps(body).encode(),
            headers_for(server),
        )
        self.lines: list[str] = []
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._begun.wait()

    def _read(self) -> None:
        try:
            with urllib.request.urlopen(self._request) as response:
                for line in response:
                    if line.startswith(b"data: "):
                        self.lines.append(line.decode().strip())
                        self._begun.set()
        finally:
            self._begun.set()

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def is_whole(self) -> bool:
        """Wait for its end; whether it came to it as it should."""
        self._thread.join()
        return bool(self.lines) and self.lines[-1] == "data: [DONE]"
