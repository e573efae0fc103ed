"""Conversion of a failed call's status to a typed error, by its reason, never by its message."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    DebugInfo,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    RequestInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc import Call, StatusCode
from grpc_status import rpc_status

from pool_service_client.errors import (
    Cancelled,
    CertificateUnknown,
    CodeNotTrusted,
    ConfigInvalid,
    CrashLoop,
    DeadlineExceeded,
    Evicted,
    FetchFailed,
    FleetOnly,
    InternalError,
    InvalidRequest,
    LogNotFound,
    ModelNotOnDisk,
    ModelRejected,
    ModelTooLarge,
    ModelUnknown,
    PoolError,
    PoolFull,
    PoolUnavailable,
    PoolUnreachable,
    QueueFull,
    QuotaExceeded,
    Recovering,
    RevisionCompacted,
    RuntimeModelConflict,
    RuntimeUnavailable,
    ScopeMissing,
    ServerInUse,
    ShuttingDown,
    StartFailed,
    StartTimeout,
    TokenMissing,
    TokenUnknown,
    TooManyFollowers,
    TooManyPins,
    Violation,
)

_DOMAIN = "pool_service"

_BY_REASON: Mapping[str, type[PoolError]] = {
    "RUNTIME_MODEL_CONFLICT": RuntimeModelConflict,
    "SERVER_IN_USE": ServerInUse,
    "RUNTIME_UNAVAILABLE": RuntimeUnavailable,
    "MODEL_REJECTED": ModelRejected,
    "MODEL_UNKNOWN": ModelUnknown,
    "MODEL_NOT_ON_DISK": ModelNotOnDisk,
    "CODE_NOT_TRUSTED": CodeNotTrusted,
    "FETCH_FAILED": FetchFailed,
    "MODEL_TOO_LARGE": ModelTooLarge,
    "POOL_FULL": PoolFull,
    "QUEUE_FULL": QueueFull,
    "CONFIG_INVALID": ConfigInvalid,
    "START_TIMEOUT": StartTimeout,
    "START_FAILED": StartFailed,
    "CRASH_LOOP": CrashLoop,
    "EVICTED": Evicted,
    "SHUTTING_DOWN": ShuttingDown,
    "RECOVERING": Recovering,
    "REVISION_COMPACTED": RevisionCompacted,
    "LOG_NOT_FOUND": LogNotFound,
    "TOO_MANY_FOLLOWERS": TooManyFollowers,
    "TOO_MANY_PINS": TooManyPins,
    "TOKEN_MISSING": TokenMissing,
    "TOKEN_UNKNOWN": TokenUnknown,
    "CERTIFICATE_UNKNOWN": CertificateUnknown,
    "SCOPE_MISSING": ScopeMissing,
    "QUOTA_EXCEEDED": QuotaExceeded,
    "POOL_UNREACHABLE": PoolUnreachable,
    "FLEET_ONLY": FleetOnly,
    "INTERNAL": InternalError,
}

M = TypeVar("M", bound=Message)


class FailedCall(Protocol):
    """The methods that the errors of grpc and of grpc.aio share."""

    def code(self) -> StatusCode: ...

    def details(self) -> str | None: ...


@dataclass(slots=True)
class Peer:
    """The service that a client calls.

    address: for error messages.
    closed: whether the client was closed, which ends its calls as CANCELLED.
    """

    address: str
    closed: bool = False


def error_of(call: FailedCall, *, peer: Peer, timeout: float | None) -> PoolError:
    """Return the typed error of a failed call.

    call: the error of grpc or grpc.aio.
    peer: the service that was called.
    timeout: the call's timeout in seconds, for the message.
    """
    status = _status(call)
    info = next((one for one in _all(status, ErrorInfo) if one.domain == _DOMAIN), None)
    if info is None or not info.reason:
        return _without_reason(call, peer, timeout)
    debug, request = _first(status, DebugInfo), _first(status, RequestInfo)
    return _class_of(info.reason)(
        status.message,
        code=call.code(),
        reason=info.reason,
        metadata=dict(info.metadata),
        retry_after=_retry_after(status),
        last_lines=tuple(debug.stack_entries) if debug else (),
        violations=tuple(_violations(status)),
        request_id=request.request_id if request else "",
    )


def _status(call: FailedCall) -> Status:
    """Return the rich status; an empty one if there is none, or it contradicts the plain one."""
    try:
        return rpc_status.from_call(cast("Call", call)) or Status()
    except (ValueError, DecodeError):
        return Status()


def _first(status: Status, kind: type[M]) -> M | None:
    return next(_all(status, kind), None)


def _all(status: Status, kind: type[M]) -> Iterator[M]:
    for packed in status.details:
        message = kind()
        # Skip a detail that cannot be decoded; the others still count.
        with suppress(DecodeError):
            if packed.Unpack(message):
                yield message


def _class_of(reason: str) -> type[PoolError]:
    if reason.startswith("INVALID_"):
        return InvalidRequest
    return _BY_REASON.get(reason, PoolError)


def _retry_after(status: Status) -> float | None:
    info = _first(status, RetryInfo)
    return max(0.0, info.retry_delay.ToNanoseconds() / 1e9) if info else None


def _violations(status: Status) -> Iterator[Violation]:
    for bad in _all(status, BadRequest):
        for field in bad.field_violations:
            yield Violation(field.field, field.description, field.reason)
    for failure in _all(status, PreconditionFailure):
        for unmet in failure.violations:
            yield Violation(unmet.subject, unmet.description, unmet.type)
    for quota in _all(status, QuotaFailure):
        for excess in quota.violations:
            yield Violation(excess.subject, excess.description)


def _without_reason(call: FailedCall, peer: Peer, timeout: float | None) -> PoolError:
    """Return the error of a call that gRPC or another program than a pool service has ended."""
    address, code, details = peer.address, call.code(), call.details() or "no details"
    if code is StatusCode.UNAVAILABLE:
        return PoolUnavailable(
            f"cannot reach the pool service at {address}: {_essence(details)}", code=code
        )
    if code is StatusCode.DEADLINE_EXCEEDED:
        limit = "in time" if timeout is None else f"within {timeout:g} s"
        return DeadlineExceeded(f"no answer {limit}; what the service has begun goes on", code=code)
    if code is StatusCode.UNIMPLEMENTED:
        return PoolError(
            f"what answers at {address} does not know this call: "
            "it is another program, or an older pool service",
            code=code,
        )
    if code is StatusCode.CANCELLED:
        return cancelled_error(peer)
    return PoolError(f"the call to {address} failed with {code.name}: {details}", code=code)


def cancelled_error(peer: Peer) -> PoolError:
    """Return the error of a call that ended as CANCELLED although its caller did not cancel it.

    1. The client was closed.
    2. The service ended the call before it began, since it stops or has too many calls.
    """
    if peer.closed:
        return Cancelled(
            f"the call to {peer.address} was given up: its client was closed",
            code=StatusCode.CANCELLED,
        )
    return PoolUnavailable(
        f"the pool service at {peer.address} dropped the call: "
        "it ends, or has more calls waiting than it takes",
        code=StatusCode.UNAVAILABLE,
    )


def no_pool_service_error(address: str, what: str) -> PoolError:
    """Return the error of an answer that no pool service gives. what: the flaw of the answer."""
    return PoolError(
        f"what answers at {address} is no pool service, or is broken: {what}",
        code=StatusCode.INTERNAL,
    )


def stream_ended_error() -> PoolError:
    """Return the error of an endless stream that the service ended without an error."""
    return PoolUnavailable("the service ended the stream", code=StatusCode.UNAVAILABLE)


_OF_CERTIFICATE = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification")
"""Stand in gRPC's text when it refuses the certificate of the service; each alone."""


def _essence(details: str) -> str:
    """Return the last of the causes that gRPC chains: the one that the user can act on."""
    # TLS ends its errors so.
    cause = details.removesuffix(": OK").rpartition(": ")[2]
    is_certificate = any(sign in details for sign in _OF_CERTIFICATE)
    return f"its certificate is not accepted: {cause}" if is_certificate else cause
