from collections.abc import Awaitable, Callable

import pytest
from google.rpc.error_details_pb2 import (
    BadRequest,
    DebugInfo,
    PreconditionFailure,
    QuotaFailure,
    RequestInfo,
)
from grpc import StatusCode

from pool_service_client import (
    CertificateUnknown,
    CodeNotTrusted,
    ConfigInvalid,
    CrashLoop,
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
    PoolUnreachable,
    QueueFull,
    QuotaExceeded,
    Recovering,
    RetryPolicy,
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
from tests.client.conftest import Connect
from tests.client.scripted import Refusal, Script, retry_after

Fail = Callable[[Refusal], Awaitable[PoolError]]

REASONS = {
    "INVALID_MODEL": InvalidRequest,
    "INVALID_PAGE_TOKEN": InvalidRequest,
    "INVALID_SOMETHING_NEW": InvalidRequest,
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
    "A_NEW_REASON": PoolError,
}


@pytest.fixture
async def failure(connect: Connect, service: Script) -> Fail:
    """What a call raises that the service answers so."""

    async def fail(refusal: Refusal) -> PoolError:
        service.answer("Ensure", refusal)
        client = connect(service.address, RetryPolicy(attempts=1))
        with pytest.raises(PoolError) as raised:
            await client.call("ensure", "m")
        return raised.value

    return fail


@pytest.mark.parametrize(("reason", "kind"), REASONS.items())
async def test_the_reason_makes_the_class(
    failure: Fail, reason: str, kind: type[PoolError]
) -> None:
    error = await failure(Refusal(StatusCode.FAILED_PRECONDITION, "it is so", reason))
    assert type(error) is kind
    assert error.reason == reason
    assert str(error) == "it is so"
    assert error.metadata == {"model": "m"}
    assert error.code is StatusCode.FAILED_PRECONDITION


async def test_details_are_read(failure: Fail) -> None:
    error = await failure(
        Refusal(
            StatusCode.UNAVAILABLE,
            "it died",
            "START_FAILED",
            (
                retry_after(1.5),
                DebugInfo(stack_entries=["Traceback", "ImportError: no mlx"]),
                RequestInfo(request_id="r-1"),
            ),
        )
    )
    assert error.retry_after == 1.5
    assert error.last_lines == ("Traceback", "ImportError: no mlx")
    assert error.request_id == "r-1"


async def test_violations_are_gathered_from_every_kind_of_detail(failure: Fail) -> None:
    fields = [BadRequest.FieldViolation(field="model", description="is empty", reason="EMPTY")]
    unmet = [PreconditionFailure.Violation(type="USE", subject="m", description="2 requests")]
    excess = [QuotaFailure.Violation(subject="pool", description="is full")]
    details = (
        BadRequest(field_violations=fields),
        PreconditionFailure(violations=unmet),
        QuotaFailure(violations=excess),
    )
    error = await failure(Refusal(StatusCode.INVALID_ARGUMENT, "no", "INVALID_MODEL", details))
    assert error.violations == (
        Violation("model", "is empty", "EMPTY"),
        Violation("m", "2 requests", "USE"),
        Violation("pool", "is full"),
    )


async def test_a_reason_of_another_domain_is_not_ours(failure: Fail) -> None:
    refusal = Refusal(StatusCode.ABORTED, "no", "EVICTED", domain="example.org")
    error = await failure(refusal)
    assert (type(error), error.reason) == (PoolError, "")


async def test_a_bare_status_is_reported_with_its_code(failure: Fail) -> None:
    error = await failure(Refusal(StatusCode.DATA_LOSS, "gone"))
    assert (error.code, error.reason) == (StatusCode.DATA_LOSS, "")
    assert "DATA_LOSS: gone" in str(error)
