"""Answers that a script gives where no real service can be made to."""

from google.rpc.error_details_pb2 import (
    BadRequest,
    DebugInfo,
    PreconditionFailure,
    QuotaFailure,
    RequestInfo,
)
from grpc import StatusCode

from tests.client.scripted import Refusal, retry_after

SOON = (retry_after(0.01),)

DIED = Refusal(StatusCode.UNAVAILABLE, "it died", "START_FAILED", SOON)
FULL = Refusal(StatusCode.RESOURCE_EXHAUSTED, "no room", "POOL_FULL", SOON)
ENDING = Refusal(StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN", SOON)
BROKEN = Refusal(StatusCode.UNAVAILABLE, "the connection broke")
DROPPED = Refusal(StatusCode.CANCELLED, "CANCELLED")
"""What gRPC's servers do with a call that they have not begun when they stop."""

COMPACTED = Refusal(StatusCode.OUT_OF_RANGE, "gone", "REVISION_COMPACTED")
REJECTED = Refusal(StatusCode.FAILED_PRECONDITION, "no", "MODEL_REJECTED")
EVICTED = Refusal(StatusCode.ABORTED, "evicted", "EVICTED")

BUG = Refusal(StatusCode.INTERNAL, "a bug", "INTERNAL", (RequestInfo(request_id="request-17"),))


def _invalid(field: str) -> Refusal:
    wrong = BadRequest.FieldViolation(field=field, description=f"{field} is not valid")
    details = (BadRequest(field_violations=[wrong]),)
    return Refusal(StatusCode.INVALID_ARGUMENT, "no", f"INVALID_{field.upper()}", details)


INVALID = tuple(map(_invalid, ("target", "force", "page_token", "begin")))

EVERYTHING = Refusal(
    StatusCode.FAILED_PRECONDITION,
    "much is wrong",
    "TOO_SUNNY",
    (
        DebugInfo(stack_entries=["first", "last"]),
        PreconditionFailure(
            violations=[PreconditionFailure.Violation(type="KIND", subject="s", description="d")]
        ),
        QuotaFailure(violations=[QuotaFailure.Violation(subject="memory", description="full")]),
        RequestInfo(request_id="request-18"),
    ),
)
"""All details at once, with a reason of a newer service."""
