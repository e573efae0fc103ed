"""Asks a model's server directly, as callers do once they have its endpoint."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any, Final

ANSWER_TIMEOUT_S: Final = 120.0


def ask(endpoint: str, served_model_name: str, question: str, max_tokens: int = 24) -> str:
    """Return the whole answer to one question."""
    return "".join(stream(endpoint, served_model_name, question, max_tokens)).strip()


def stream(endpoint: str, served_model_name: str, question: str, max_tokens: int) -> Iterator[str]:
    """Yield the answer to one question piece by piece, as the server generates it.

    Args:
        endpoint: the base URL that `Ensure` returned.
        served_model_name: what the server calls its model.
        question: the user's message.
        max_tokens: where the answer ends at the latest.

    Raises:
        OSError: the server cannot be reached, refuses, or closes the stream before its end.
    """
    body = {
        "model": served_model_name,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": max_tokens,
        "temperature": 0.0,
        "stream": True,
    }
    request = urllib.request.Request(  # noqa: S310  # the endpoint is http on loopback
        f"{endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT_S) as response:  # noqa: S310
        for line in response:
            # Between the events there are empty lines, and comments that keep a slow one alive.
            if not line.startswith(b"data: "):
                continue
            data = line.removeprefix(b"data: ").strip()
            if data == b"[DONE]":
                return
            yield _content(json.loads(data))
    raise ConnectionError(f"the answer of {endpoint} ended before its last event")


def _content(event: dict[str, Any]) -> str:
    choices = event.get("choices") or [{}]
    return choices[0].get("delta", {}).get("content") or ""
