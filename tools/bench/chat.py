"""A streamed chat completion, and when its first token came."""

import http.client
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

TIMEOUT_S = 600.0
"""For a long prompt on a slow machine: nothing comes while it is computed."""

TOKENS = 8

Messages = Sequence[dict[str, str]]

SHORT: Messages = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hello!"},
]
"""A prompt of some twenty tokens."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. first: the time of its first token by `time.perf_counter`; text: all of it."""

    first: float
    text: str


def ask(port: int, model: str, messages: Messages, key: str = "") -> Answer:
    """Return the greedy answer of a server on loopback. Raises RuntimeError if there is none.

    key: of the server; empty: it asks for none.
    """
    body = {
        "model": model,
        "messages": messages,
        "max_tokens": TOKENS,
        "temperature": 0.0,
        "stream": True,
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        first, parts = 0.0, []
        for line in response:
            if part := content_of(line):
                first = first or time.perf_counter()
                parts.append(part)
    finally:
        connection.close()
    if response.status != http.HTTPStatus.OK or not parts:
        raise RuntimeError(f"{model} has not answered: status {response.status}")
    return Answer(first, "".join(parts))


def content_of(line: bytes) -> str:
    """Return the text in a line of the stream; empty for those without any."""
    data = line.removeprefix(b"data:").strip()
    if not line.startswith(b"data:") or data == b"[DONE]":
        return ""
    choices = json.loads(data).get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""
