"""Errors for callers, one class for each thing that a caller can do about them.

PoolError
├── InvalidField          correct the field of the request
├── RuntimeModelConflict  ask without a runtime model, or evict first
├── ServerInUse           wait, or evict with force
├── RuntimeUnavailable    install or configure the runtime
├── ModelRejected         name another model: the runtime refused this one
├── ModelUnknown          name a model of the catalogue: no other is served
├── ModelNotOnDisk        pull it first, or allow the download
├── CodeNotTrusted        trust it in the configuration, or name another model
├── FetchFailed           try again: the download failed
├── ModelTooLarge         raise the budget or name a smaller model: it can never fit
├── PoolFull              try again: there was no memory in time
├── QueueFull             try again: too many models are queued
├── ConfigInvalid         correct the configuration: nothing was changed
├── StartTimeout          try again: it was not ready in time
├── StartFailed           try again: its process died before it was ready
├── CrashLoop             mend the cause, or evict the model: its process died too often
├── Evicted               ask again if still wanted: the model was evicted meanwhile
├── ShuttingDown          try again: the service ends, another may come
├── Recovering            try again: the service has just started
├── RevisionCompacted     begin the watch again
├── LogNotFound           start the model first, or ask for another generation
├── TooManyFollowers      try again: as many streams follow logs as may
├── TooManyPins           take back pins that are not needed: no more are remembered
├── TokenMissing          send a token: nothing else tells the service who calls
├── TokenUnknown          ask for another token: this one is mistyped, expired or revoked
├── CertificateUnknown    have a name of the certificate added to the configuration
├── ScopeMissing          ask for a token that allows the call
├── QuotaExceeded         release something, or try again: the caller's own limit is reached
├── StaleFleet            follow the front that leads: it has a higher epoch
└── FleetOnly             call the front of the fleet: this member starts servers for it only

A message says what could not be done, why, and what to do about it. `rpc/status.py` maps each
class to a status.
"""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(eq=False)
class PoolError(Exception):
    """An error for a caller; model: the model that it is about, "" if about none."""

    message: str
    model: str = field(default="", kw_only=True)
    REASON: ClassVar[str] = "INTERNAL"

    @property
    def reason(self) -> str:
        """The machine-readable reason, which is part of the API."""
        return self.REASON

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False)
class InvalidField(PoolError):
    """A field of the request is not valid; field_name: its name on the wire."""

    field_name: str = field(kw_only=True)

    @property
    def reason(self) -> str:
        """INVALID_ and the name of the field in capitals."""
        return f"INVALID_{self.field_name.upper()}"


@dataclass(eq=False)
class RuntimeModelConflict(PoolError):
    """The model's server runs another runtime model than the one asked for."""

    running: str = field(kw_only=True)
    asked: str = field(kw_only=True)
    REASON = "RUNTIME_MODEL_CONFLICT"


@dataclass(eq=False)
class ServerInUse(PoolError):
    """The server is in use, and the eviction has no force.

    requests: requests in flight; 0 if there are none or they cannot be counted.
    counted: the requests could be counted.
    holders: the labels of its holders.
    """

    requests: int = field(kw_only=True)
    counted: bool = field(default=True, kw_only=True)
    holders: tuple[str, ...] = field(default=(), kw_only=True)
    REASON = "SERVER_IN_USE"


@dataclass(eq=False)
class RuntimeUnavailable(PoolError):
    """The runtime program is missing, not executable or too old."""

    REASON = "RUNTIME_UNAVAILABLE"


@dataclass(eq=False)
class ModelRejected(PoolError):
    """The runtime refused the model: no such model, bad architecture, bad weights."""

    last_lines: tuple[str, ...] = field(default=(), kw_only=True)
    REASON = "MODEL_REJECTED"


@dataclass(eq=False)
class ModelUnknown(PoolError):
    """The model is not in the catalogue, and only_listed is set."""

    REASON = "MODEL_UNKNOWN"


@dataclass(eq=False)
class ModelNotOnDisk(PoolError):
    """The model's files are not on disk, and the request may not download them."""

    REASON = "MODEL_NOT_ON_DISK"


@dataclass(eq=False)
class CodeNotTrusted(PoolError):
    """Loading the model would run code of its own; files: the files with that code."""

    files: tuple[str, ...] = field(default=(), kw_only=True)
    REASON = "CODE_NOT_TRUSTED"


@dataclass(eq=False)
class FetchFailed(PoolError):
    """The model's files could not be downloaded."""

    REASON = "FETCH_FAILED"


@dataclass(eq=False)
class ModelTooLarge(PoolError):
    """The model needs more memory than the whole budget; needed, budget: bytes."""

    needed: int = field(kw_only=True)
    budget: int = field(kw_only=True)
    REASON = "MODEL_TOO_LARGE"


@dataclass(eq=False)
class PoolFull(PoolError):
    """The model did not fit within the queue timeout.

    subject: what was short; retry_after: seconds.
    """

    subject: str = field(kw_only=True)
    retry_after: float = field(kw_only=True)
    REASON = "POOL_FULL"


@dataclass(eq=False)
class QueueFull(PoolError):
    """The queue is full; retry_after: seconds."""

    retry_after: float = field(kw_only=True)
    REASON = "QUEUE_FULL"


@dataclass(eq=False)
class ConfigInvalid(PoolError):
    """The configuration could not be read or is not valid, so nothing was changed."""

    REASON = "CONFIG_INVALID"


@dataclass(eq=False)
class StartTimeout(PoolError):
    """The server was not ready within its start timeout."""

    last_lines: tuple[str, ...] = field(default=(), kw_only=True)
    REASON = "START_TIMEOUT"


@dataclass(eq=False)
class StartFailed(PoolError):
    """The server's process died before it was ready, or could not be started."""

    last_lines: tuple[str, ...] = field(default=(), kw_only=True)
    REASON = "START_FAILED"


@dataclass(eq=False)
class CrashLoop(PoolError):
    """The server's processes died too often; retry_after: seconds until the next start."""

    retry_after: float = field(kw_only=True)
    last_lines: tuple[str, ...] = field(default=(), kw_only=True)
    REASON = "CRASH_LOOP"


@dataclass(eq=False)
class Evicted(PoolError):
    """The model was evicted while the caller waited for it."""

    REASON = "EVICTED"


@dataclass(eq=False)
class ShuttingDown(PoolError):
    """The service is shutting down."""

    REASON = "SHUTTING_DOWN"


@dataclass(eq=False)
class Recovering(PoolError):
    """The service has started and is still finding the servers that run."""

    REASON = "RECOVERING"


@dataclass(eq=False)
class RevisionCompacted(PoolError):
    """The history does not have the revision asked for; oldest, newest: the ones that it has."""

    oldest: int = field(kw_only=True)
    newest: int = field(kw_only=True)
    REASON = "REVISION_COMPACTED"


@dataclass(eq=False)
class LogNotFound(PoolError):
    """No log of the model, or of the generation that was asked for, is kept."""

    REASON = "LOG_NOT_FOUND"


@dataclass(eq=False)
class TooManyFollowers(PoolError):
    """As many streams follow logs as may; retry_after: seconds."""

    retry_after: float = field(kw_only=True)
    REASON = "TOO_MANY_FOLLOWERS"


@dataclass(eq=False)
class TooManyPins(PoolError):
    """As many models are pinned by callers, or not pinned, as are remembered."""

    REASON = "TOO_MANY_PINS"


@dataclass(eq=False)
class TokenMissing(PoolError):
    """Nothing tells who calls; user: the uid of the caller if it is known, else None."""

    user: int | None = field(default=None, kw_only=True)
    REASON = "TOKEN_MISSING"


@dataclass(eq=False)
class TokenUnknown(PoolError):
    """The token is none of the service's: it is mistyped, expired or was revoked."""

    REASON = "TOKEN_UNKNOWN"


@dataclass(eq=False)
class CertificateUnknown(PoolError):
    """No client of the configuration has one of the certificate's names; names: its SANs."""

    names: tuple[str, ...] = field(kw_only=True)
    REASON = "CERTIFICATE_UNKNOWN"


@dataclass(eq=False)
class ScopeMissing(PoolError):
    """The caller is known, and may not do this; needed, scope: names of scopes."""

    needed: str = field(kw_only=True)
    scope: str = field(kw_only=True)
    REASON = "SCOPE_MISSING"


@dataclass(eq=False)
class QuotaExceeded(PoolError):
    """A limit of the caller is reached.

    limit: holds, waiting, streams, starts or memory_share. most: the limit, a number or bytes.
    retry_after: seconds.
    """

    limit: str = field(kw_only=True)
    most: int = field(kw_only=True)
    retry_after: float = field(kw_only=True)
    REASON = "QUOTA_EXCEEDED"


@dataclass(eq=False)
class PoolUnreachable(PoolError):
    """No member of a fleet, or no leader of it, can be asked now; retry_after: seconds."""

    retry_after: float = field(kw_only=True)
    REASON = "POOL_UNREACHABLE"


@dataclass(eq=False)
class StaleFleet(PoolError):
    """The call is of a front that another one has followed; epoch, front: of that one."""

    epoch: int = field(kw_only=True)
    front: str = field(kw_only=True)
    REASON = "STALE_FLEET"


@dataclass(eq=False)
class FleetOnly(PoolError):
    """The member starts servers for its fleet only, and the call comes from no leading front."""

    REASON = "FLEET_ONLY"
