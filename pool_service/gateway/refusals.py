"""Refusals: why a request failed, in the forms that the callers' libraries read.

OpenAI's libraries try 408, 409, 429 and 5xx again by themselves, unless `x-should-retry` says
false, and heed `Retry-After`; so do Anthropic's. What no second try can mend says false.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from pool_service_client import InvalidRequest, PoolError

ANTHROPIC_PATH = "/v1/messages"

DEFAULT_RETRY_S = 1.0
"""The seconds until another try, where the service does not say when that may succeed."""

_LAST_LINES = 5
"""The most lines of a server's log that a message has; only for callers that may read logs."""

_BY_REASON: Mapping[str, HTTPStatus] = {
    "MODEL_UNKNOWN": HTTPStatus.NOT_FOUND,
    "MODEL_NOT_ON_DISK": HTTPStatus.NOT_FOUND,
    "CODE_NOT_TRUSTED": HTTPStatus.FORBIDDEN,
    "SCOPE_MISSING": HTTPStatus.FORBIDDEN,
    "TOKEN_MISSING": HTTPStatus.UNAUTHORIZED,
    "TOKEN_UNKNOWN": HTTPStatus.UNAUTHORIZED,
    "CERTIFICATE_UNKNOWN": HTTPStatus.UNAUTHORIZED,
    "MODEL_REJECTED": HTTPStatus.UNPROCESSABLE_ENTITY,
    "MODEL_TOO_LARGE": HTTPStatus.UNPROCESSABLE_ENTITY,
    "RUNTIME_UNAVAILABLE": HTTPStatus.UNPROCESSABLE_ENTITY,
    "QUOTA_EXCEEDED": HTTPStatus.TOO_MANY_REQUESTS,
    "INTERNAL": HTTPStatus.INTERNAL_SERVER_ERROR,
    "START_TIMEOUT": HTTPStatus.GATEWAY_TIMEOUT,
}
"""The status of each reason of the service; others get 503, as they may pass."""

_TYPES: Mapping[HTTPStatus, tuple[str, str]] = {
    HTTPStatus.UNAUTHORIZED: ("authentication_error", "authentication_error"),
    HTTPStatus.FORBIDDEN: ("permission_error", "permission_error"),
    HTTPStatus.NOT_FOUND: ("invalid_request_error", "not_found_error"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ("invalid_request_error", "request_too_large"),
    HTTPStatus.TOO_MANY_REQUESTS: ("rate_limit_error", "rate_limit_error"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("server_error", "overloaded_error"),
}
"""The types of errors by their status: OpenAI's, and Anthropic's."""


@dataclass(eq=False)
class Refusal(Exception):
    """Why a request failed, for its caller.

    Attributes:
        message: what could not be done, why, and what to do.
        code: the reason in lower case, for programs.
        retry_after_s: when another try may succeed; None: none will.
        param: the field of the request that is wrong; None: none.
    """

    status: HTTPStatus
    message: str
    code: str
    retry_after_s: float | None = None
    param: str | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def headers(self) -> dict[str, str]:
        """Return the header that tells libraries not to try again, or when to."""
        if self.retry_after_s is None:
            return {"x-should-retry": "false"}
        return {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}

    def body(self, path: str) -> bytes:
        """Return the error as the API of a path has it, as JSON."""
        return msgspec.json.encode(self._content(path))

    def event(self, path: str) -> bytes:
        """Return the error as an event of a stream, for an answer that has begun."""
        begins = b"event: error\n" if path.startswith(ANTHROPIC_PATH) else b""
        return begins + b"data: " + self.body(path) + b"\n\n"

    def _content(self, path: str) -> dict[str, Any]:
        openai, anthropic = _TYPES.get(self.status, self._usual_types())
        if path.startswith(ANTHROPIC_PATH):
            return {"type": "error", "error": {"type": anthropic, "message": self.message}}
        error = {"message": self.message, "type": openai, "param": self.param, "code": self.code}
        return {"error": error}

    def _usual_types(self) -> tuple[str, str]:
        if self.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return "invalid_request_error", "invalid_request_error"
        return "server_error", "api_error"


def refusal_of(error: PoolError) -> Refusal:
    """Return the refusal for a failed call of the service."""
    status = _BY_REASON.get(error.reason, HTTPStatus.SERVICE_UNAVAILABLE)
    if isinstance(error, InvalidRequest):
        status = HTTPStatus.BAD_REQUEST
    may_pass = status > HTTPStatus.INTERNAL_SERVER_ERROR or error.retry_after is not None
    retry_after_s = error.retry_after if error.retry_after is not None else DEFAULT_RETRY_S
    lines = error.last_lines[-_LAST_LINES:]
    message = "\n".join([str(error), *lines])
    param = "model" if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND} else None
    code = error.reason.lower() or "service_unavailable"
    return Refusal(status, message, code, retry_after_s if may_pass else None, param)


def bad_request(message: str, param: str | None = None) -> Refusal:
    """Return the refusal of a request that is not valid."""
    return Refusal(HTTPStatus.BAD_REQUEST, message, "invalid_request", param=param)


def internal_error() -> Refusal:
    """Return the refusal of a request that has met a bug."""
    message = "a bug of the gateway, please report it: its log has more"
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, message, "internal_error")
