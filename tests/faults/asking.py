"""Requests to a server, straight to its endpoint."""

import json
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
