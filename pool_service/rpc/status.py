"""Conversion of the pool's errors to google.rpc.Status with details."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from pool_service.core import errors

DOMAIN = "pool_service"

_DETAILS_KEY: Final = "grpc-status-details-bin"

PUSHBACK = "grpc-retry-pushback-ms"
"""The metadata by which a server decides about gRPC's own retries, for stubs with a retry policy:
https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback"""

NO_RETRY = -1
"""The pushback of a call that is not to be tried again."""

RETRY_DELAY_S = 1.0
"""Seconds until a client should retry: a start takes longer, so that an earlier retry would find
the same failure. Clients add jitter."""

# Status details travel in a trailer, and peers refuse metadata of over 8 KiB (gRPC's default).
# The trailer has the message twice: percent-encoded, in which a byte that is not ASCII takes three,
# and in the details, which base64 makes a third longer. With these limits it stays below 8 KiB.
LONGEST_MESSAGE_BYTES = 768
LONGEST_DESCRIPTION_BYTES = 256
LONGEST_NAME_BYTES = 512
LONGEST_LINE_BYTES = 512
LONGEST_LAST_LINES_BYTES = 1792

FIELD_HEADER_BYTES = 4
"""The most that protobuf adds to such a line: its tag and its length."""

CODES: dict[type[errors.PoolError], int] = {
    errors.InvalidField: code_pb2.INVALID_ARGUMENT,
    errors.RuntimeModelConflict: code_pb2.FAILED_PRECONDITION,
    errors.ServerInUse: code_pb2.FAILED_PRECONDITION,
    errors.RuntimeUnavailable: code_pb2.FAILED_PRECONDITION,
    errors.ModelRejected: code_pb2.FAILED_PRECONDITION,
    errors.ModelUnknown: code_pb2.NOT_FOUND,
    errors.ModelNotOnDisk: code_pb2.FAILED_PRECONDITION,
    errors.CodeNotTrusted: code_pb2.FAILED_PRECONDITION,
    errors.FetchFailed: code_pb2.UNAVAILABLE,
    errors.ModelTooLarge: code_pb2.FAILED_PRECONDITION,
    errors.PoolFull: code_pb2.RESOURCE_EXHAUSTED,
    errors.QueueFull: code_pb2.RESOURCE_EXHAUSTED,
    errors.ConfigInvalid: code_pb2.FAILED_PRECONDITION,
    errors.StartTimeout: code_pb2.UNAVAILABLE,
    errors.StartFailed: code_pb2.UNAVAILABLE,
    errors.CrashLoop: code_pb2.FAILED_PRECONDITION,
    errors.Evicted: code_pb2.ABORTED,
    errors.ShuttingDown: code_pb2.UNAVAILABLE,
    errors.Recovering: code_pb2.UNAVAILABLE,
    errors.RevisionCompacted: code_pb2.OUT_OF_RANGE,
    errors.LogNotFound: code_pb2.NOT_FOUND,
    errors.TooManyFollowers: code_pb2.RESOURCE_EXHAUSTED,
    errors.TooManyPins: code_pb2.FAILED_PRECONDITION,
    errors.TokenMissing: code_pb2.UNAUTHENTICATED,
    errors.TokenUnknown: code_pb2.UNAUTHENTICATED,
    errors.CertificateUnknown: code_pb2.UNAUTHENTICATED,
    errors.ScopeMissing: code_pb2.PERMISSION_DENIED,
    errors.QuotaExceeded: code_pb2.RESOURCE_EXHAUSTED,
    errors.PoolUnreachable: code_pb2.UNAVAILABLE,
    errors.StaleFleet: code_pb2.FAILED_PRECONDITION,
    errors.FleetOnly: code_pb2.FAILED_PRECONDITION,
}


@dataclass(frozen=True, slots=True)
class Status(grpc.Status):
    """A status with its metadata; gRPC declares these three, and has no class with them."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def status_of(error: errors.PoolError) -> grpc.Status:
    """Return the status of an error of the pool."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if error.model:
        info.metadata["model"] = error.model
    code = CODES.get(type(error), code_pb2.INTERNAL)
    return _status(code, error.message, info, _details(error, info))


def internal_status(request_id: str) -> grpc.Status:
    """Return the status of a bug; the log has the error under `request_id`."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN)
    message = (
        "an internal error of the service ended this call. Report it with the lines of the "
        f"service's log that name request {request_id}."
    )
    details = [error_details_pb2.RequestInfo(request_id=request_id)]
    return _status(code_pb2.INTERNAL, message, info, details)


def reason_of(status: grpc.Status) -> str:
    """Return the reason of an error's status; empty if it has none of the pool's."""
    for key, value in status.trailing_metadata or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            message = status_pb2.Status.FromString(value)
            return _reason_in(message.details)
    return ""


def _reason_in(details: Iterable[Any]) -> str:
    info = error_details_pb2.ErrorInfo()
    found = (detail.Unpack(info) and info.domain == DOMAIN for detail in details)
    return info.reason if any(found) else ""


@singledispatch
def _details(_error: errors.PoolError, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    """Return the details besides the ErrorInfo; may add to the ErrorInfo's metadata."""
    return []


@_details.register
def _(error: errors.InvalidField, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    violation = error_details_pb2.BadRequest.FieldViolation(
        field=error.field_name, description=sendable(error.message)
    )
    return [error_details_pb2.BadRequest(field_violations=[violation])]


@_details.register
def _(error: errors.RuntimeModelConflict, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["running"] = _cut(error.running, LONGEST_NAME_BYTES)
    info.metadata["asked"] = _cut(error.asked, LONGEST_NAME_BYTES)
    return [_precondition("RUNTIME_MODEL", error.model, error.message)]


@_details.register
def _(error: errors.ServerInUse, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["requests"] = str(error.requests) if error.counted else "unknown"
    info.metadata["holds"] = str(len(error.holders))
    info.metadata["holders"] = _cut(", ".join(sorted(set(error.holders))), LONGEST_NAME_BYTES)
    return [_precondition("UNUSED", error.model, error.message)]


@_details.register
def _(error: errors.RuntimeUnavailable, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_precondition("RUNTIME", "runtime", error.message)]


@_details.register
def _(error: errors.ModelRejected, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_resource(error), _debug(error.last_lines)]


@_details.register
def _(
    error: errors.StartFailed | errors.StartTimeout, _info: error_details_pb2.ErrorInfo
) -> list[Message]:
    return [_retry(), _debug(error.last_lines)]


@_details.register(errors.ModelUnknown)
@_details.register(errors.ModelNotOnDisk)
@_details.register(errors.ConfigInvalid)
@_details.register(errors.Evicted)
@_details.register(errors.LogNotFound)
def _(error: errors.PoolError, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_resource(error)] if error.model else []


@_details.register
def _(error: errors.CodeNotTrusted, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["files"] = _cut(", ".join(error.files), LONGEST_NAME_BYTES)
    return [_precondition("TRUST", error.model, error.message)]


@_details.register
def _(error: errors.FetchFailed, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_resource(error), _retry()]


@_details.register
def _(error: errors.ModelTooLarge, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["needed_bytes"] = str(error.needed)
    info.metadata["budget_bytes"] = str(error.budget)
    return [_quota("memory", error.message)]


@_details.register
def _(error: errors.PoolFull, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_retry(error.retry_after), _quota(error.subject, error.message)]


@_details.register
def _(error: errors.QueueFull, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_retry(error.retry_after), _quota("queue", error.message)]


@_details.register
def _(error: errors.TooManyFollowers, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_retry(error.retry_after), _quota("followers", error.message)]


@_details.register
def _(error: errors.TooManyPins, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_quota("pins", error.message)]


@_details.register
def _(error: errors.TokenMissing, info: error_details_pb2.ErrorInfo) -> list[Message]:
    if error.user is not None:
        info.metadata["user"] = str(error.user)
    return []


@_details.register
def _(error: errors.CertificateUnknown, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["names"] = _cut(", ".join(error.names), LONGEST_NAME_BYTES)
    return []


@_details.register
def _(error: errors.ScopeMissing, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["needed"] = error.needed
    info.metadata["scope"] = error.scope
    return []


@_details.register
def _(error: errors.QuotaExceeded, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["limit"] = error.limit
    info.metadata["most"] = str(error.most)
    return [_retry(error.retry_after), _quota(error.limit, error.message)]


@_details.register
def _(error: errors.StaleFleet, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["epoch"] = str(error.epoch)
    info.metadata["front"] = _cut(error.front, LONGEST_NAME_BYTES)
    return []


@_details.register
def _(error: errors.FleetOnly, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_precondition("FLEET", "fleet", error.message)]


@_details.register(errors.ShuttingDown)
@_details.register(errors.PoolUnreachable)
@_details.register(errors.Recovering)
def _(_error: errors.PoolError, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_retry()]


@_details.register
def _(error: errors.CrashLoop, _info: error_details_pb2.ErrorInfo) -> list[Message]:
    return [_retry(error.retry_after), _debug(error.last_lines)]


@_details.register
def _(error: errors.RevisionCompacted, info: error_details_pb2.ErrorInfo) -> list[Message]:
    info.metadata["oldest"] = str(error.oldest)
    info.metadata["newest"] = str(error.newest)
    return []


def _retry(seconds: float = RETRY_DELAY_S) -> error_details_pb2.RetryInfo:
    delay = Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _resource(error: errors.PoolError) -> error_details_pb2.ResourceInfo:
    return error_details_pb2.ResourceInfo(
        resource_type="model",
        resource_name=error.model,
        description=_cut(error.message, LONGEST_DESCRIPTION_BYTES),
    )


def _quota(subject: str, what: str) -> error_details_pb2.QuotaFailure:
    violation = error_details_pb2.QuotaFailure.Violation(
        subject=subject, description=_cut(what, LONGEST_DESCRIPTION_BYTES)
    )
    return error_details_pb2.QuotaFailure(violations=[violation])


def _precondition(kind: str, subject: str, what: str) -> error_details_pb2.PreconditionFailure:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=kind, subject=subject, description=_cut(what, LONGEST_DESCRIPTION_BYTES)
    )
    return error_details_pb2.PreconditionFailure(violations=[violation])


def _debug(last_lines: tuple[str, ...]) -> error_details_pb2.DebugInfo:
    """Return the newest of the lines, as many as fit into the trailer."""
    entries: list[str] = []
    room = LONGEST_LAST_LINES_BYTES
    for line in reversed(last_lines):
        entry = _cut(line, LONGEST_LINE_BYTES)
        room -= len(entry.encode()) + FIELD_HEADER_BYTES
        if room < 0:
            break
        entries.append(entry)
    return error_details_pb2.DebugInfo(stack_entries=reversed(entries))


def _cut(text: str, longest: int) -> str:
    """Return a text cut to `longest` bytes."""
    text = sendable(text)
    encoded = text.encode()
    if len(encoded) <= longest:
        return text
    return encoded[: longest - 3].decode(errors="ignore") + "…"


def _status(
    code: int, message: str, info: error_details_pb2.ErrorInfo, details: Sequence[Message]
) -> grpc.Status:
    status = status_pb2.Status(code=code, message=_cut(message, LONGEST_MESSAGE_BYTES))
    for detail in [info, *details]:
        status.details.add().Pack(detail)
    return _with_pushback(rpc_status.to_status(status), details)


def _with_pushback(status: grpc.Status, details: Sequence[Message]) -> grpc.Status:
    """Return a status that also tells gRPC's own retries what its details tell our clients.

    That is the delay of the RetryInfo; without one that the call is not to be tried again.
    """
    delays = [one.retry_delay for one in details if isinstance(one, error_details_pb2.RetryInfo)]
    # Rounded up: a call that comes too early would be refused again.
    pushback_ms = -(-delays[0].ToNanoseconds() // 1_000_000) if delays else NO_RETRY
    metadata = (*status.trailing_metadata, (PUSHBACK, str(pushback_ms)))
    return Status(status.code, status.details, metadata)


def sendable(text: str) -> str:
    r"""Return the text with lone surrogates such as `\udcff` escaped, as protobuf wants it."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
