"""Interpretation of the answers of health paths."""

import json
import math

from pool_service.adapters.probe.http_get import Answer
from pool_service.adapters.probe.metrics_text import as_number

# The healthy states that vllm-mlx (healthy), llama.cpp (ok) and others report.
_GOOD = frozenset({"healthy", "ok", "ready", "up", "pass", "running", "alive", "serving"})
_HTTP_OK = 200


def is_healthy(answer: Answer | None) -> bool:
    """Return whether an answer is a 200 whose JSON object, if any, does not deny health.

    vllm-mlx answers 200 even if it is unhealthy or has no model. An answer with a JSON content
    type that is not valid JSON is unhealthy.
    """
    if answer is None or answer.status != _HTTP_OK:
        return False
    try:
        fields = _fields(answer)
    except (ValueError, RecursionError):
        return "json" not in answer.content_type.lower()
    if fields.get("model_loaded") is False:
        return False
    status = fields.get("status", "ok")
    return status is True or (isinstance(status, str) and status.lower() in _GOOD)


def reported_use(answer: Answer | None) -> tuple[float | None, float | None]:
    """Return the reported requests in flight, and the Unix time in seconds of the last request.

    Each is None if the answer lacks it or its value is impossible.
    """
    if answer is None or answer.status != _HTTP_OK:
        return None, None
    try:
        fields = _fields(answer)
    except (ValueError, RecursionError):
        return None, None
    count, last = as_number(fields.get("active_requests")), as_number(fields.get("last_used_at"))
    if count is not None and count < 0:
        count = None
    if last is not None and not math.isfinite(last):
        last = None
    return count, last


def _fields(answer: Answer) -> dict[str, object]:
    """Return the body's fields; empty if it is JSON but not an object.

    Raises ValueError if it is not JSON, RecursionError if it is nested too deeply.
    """
    value = json.loads(answer.body)
    return value if isinstance(value, dict) else {}
