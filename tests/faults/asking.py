"""Requests to a server, straight to its endpoint."""

import json
import threading
import urllib.request
from typing import Any

from pool_service_client import Server


def complete(server: Server, tokens: int) -> int:
    """Ask for that many tokens, without streaming; how many came."""
    body = {
        "model": server.served_model_name,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": tokens,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{server.endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as response:
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
            {"Content-Type": "application/json"},
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
