"""The one request that makes a program load its model, where its health path says nothing of it."""

from urllib.parse import urlsplit

from pool_service.adapters.http_get import post_json
from pool_service.core.types import LaunchPlan

_LONGEST_S = 86_400.0
"""Loading takes as long as it takes: the start limit ends it, and the process with it."""

_HTTP_OK = 200


async def is_loaded(endpoint: str, plan: LaunchPlan) -> bool:
    """Return whether it answers 200 to the request of its plan; True where the plan has none."""
    if not plan.ready_path:
        return True
    url = urlsplit(endpoint)
    body = plan.ready_body.encode()
    host, port = url.hostname or "", url.port or 0
    answer = await post_json(host, port, plan.ready_path, body, _LONGEST_S)
    return answer is not None and answer.status == _HTTP_OK
