"""Errors of members, which callers of the front get as they are."""

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core.leading import RETRY_AFTER_S
from pool_service.rpc.status import DOMAIN, Status

RESTARTING = frozenset({"SHUTTING_DOWN", "RECOVERING"})
"""The reasons of a member that is just being replaced by the next service."""


def status_of(error: grpc.aio.AioRpcError) -> grpc.Status:
    """Return the status of a member's error, with the same details."""
    metadata = tuple((key, value) for key, value in error.trailing_metadata() or ())
    return Status(error.code(), error.details() or "", metadata)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason of a member's error; empty if it is gRPC's own."""
    try:
        # It declares the synchronous error only, and reads what both have.
        status = rpc_status.from_call(error)  # type: ignore[arg-type]
    except ValueError:
        return ""
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            return info.reason
    return ""


def is_of_connection(error: grpc.aio.AioRpcError, reason: str) -> bool:
    """Return whether a call has failed as its member is away, or is just being replaced."""
    if reason:
        return reason in RESTARTING
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def none_seen() -> PoolUnreachable:
    """Return the error of a call for which no member is seen that could be asked."""
    return PoolUnreachable(
        "no member of the fleet is seen that could be asked. Try again, or look at the members.",
        retry_after=RETRY_AFTER_S,
    )
