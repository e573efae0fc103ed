"""Client of the pool service: make a model ready, get the endpoint of its server.

`PoolClient` is for threads, `AsyncPoolClient` for asyncio; both give the values of
`types` and raise the errors of `errors`.
"""

from pool_service_client.aio import AsyncPoolClient, AsyncWatch
from pool_service_client.connect import ADDRESS_VARIABLE, DEFAULT_ADDRESS
from pool_service_client.errors import (
    CrashLoop,
    DeadlineExceeded,
    Evicted,
    InternalError,
    InvalidRequest,
    ModelRejected,
    PoolError,
    PoolUnavailable,
    Recovering,
    RevisionCompacted,
    RuntimeModelConflict,
    RuntimeUnavailable,
    ServerInUse,
    ShuttingDown,
    StartFailed,
    StartTimeout,
    Violation,
)
from pool_service_client.retry import RetryPolicy
from pool_service_client.sync import PoolClient, Watch
from pool_service_client.types import (
    EnsureResult,
    Event,
    EvictedServer,
    Exit,
    ExitCause,
    Page,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerState,
    Synced,
    Totals,
)

__all__ = [
    "ADDRESS_VARIABLE",
    "DEFAULT_ADDRESS",
    "AsyncPoolClient",
    "AsyncWatch",
    "CrashLoop",
    "DeadlineExceeded",
    "EnsureResult",
    "Event",
    "Evicted",
    "EvictedServer",
    "Exit",
    "ExitCause",
    "InternalError",
    "InvalidRequest",
    "ModelRejected",
    "Page",
    "PoolClient",
    "PoolError",
    "PoolUnavailable",
    "Recovering",
    "RetryPolicy",
    "RevisionCompacted",
    "RuntimeModelConflict",
    "RuntimeUnavailable",
    "Server",
    "ServerChanged",
    "ServerInUse",
    "ServerRemoved",
    "ServerState",
    "ShuttingDown",
    "StartFailed",
    "StartTimeout",
    "Synced",
    "Totals",
    "Violation",
    "Watch",
]
