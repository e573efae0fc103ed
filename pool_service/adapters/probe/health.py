"""What a health answer says."""

import json
import math

from pool_service.adapters.probe.http_get import Answer
from pool_service.adapters.probe.metrics_text import as_number

# As vllm-mlx (healthy), llama.cpp and vLLM's neighbours (ok) and others say it.
_GOOD = frozenset({"healthy", "ok", "ready", "up", "pass", "running", "alive", "serving"})
_HTTP_OK = 200


def is_healthy(answer: Answer | None) -> bool:
    """Whether it is a 200 that, where it is a JSON object, does not say otherwise.

    vllm-mlx answers 200 also when it is unhealthy or has no model. What calls itself JSON
    and is none says nothing.
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
    """Return the requests in flight, and the Unix time in seconds of the last, as it is told.

    None for what the answer does not say, or what cannot be.
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
    """The body's fields, none if it is JSON but no object.

    Raises ValueError if it is no JSON, RecursionError if it is nested too deep for one.
    """
    value = json.loads(answer.body)
    return value if isinstance(value, dict) else {}
