"""A server whose answers are over."""

import json
import time
from urllib.error import HTTPError
from urllib.request import urlopen

from pool_service.adapters.probe.metrics_text import total
from pool_service.adapters.runtime.vllm_mlx import use_signals


def await_idle(endpoint: str) -> None:
    """Return when a vllm-mlx counts no request any more: a moment after an answer's last byte."""
    while _counted(endpoint):
        time.sleep(0.01)


def _counted(endpoint: str) -> float:
    with urlopen(f"{endpoint}/health", timeout=60) as response:
        chats: int = json.load(response)["active_requests"]
    signals = use_signals(None, with_metrics=True)
    try:
        with urlopen(endpoint + signals.path, timeout=60) as response:
            posts = total(response.read(), signals.gauges)
    except HTTPError:  # it keeps none
        posts = 0
    return max(chats, posts or 0)
