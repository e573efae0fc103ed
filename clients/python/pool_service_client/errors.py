"""What can go wrong, as classes by what a caller would do about it.

PoolError                   the base, and a reason that this package does not know
├── InvalidRequest          correct the request: `violations` say which field
├── RuntimeModelConflict    ask without a runtime model, or evict first
├── ServerInUse             wait, or evict with force: `metadata` says who holds it
├── RuntimeUnavailable      install or configure the runtime, where the service is
├── ModelRejected           ask for another model: the runtime refused this one
├── ModelUnknown            ask for a model of the catalogue: no other is served
├── ModelNotOnDisk          pull it first, or allow the download
├── CodeNotTrusted          trust its code in the service's configuration
├── FetchFailed             try again: the download failed
├── ModelTooLarge           raise the budget, or ask for a smaller model: it can never fit
├── PoolFull                try again: there was no room in time
├── QueueFull               try again: too many models wait for room
├── ConfigInvalid           mend the service's configuration: nothing was changed
├── StartTimeout            try again: the server was not ready in time
├── StartFailed             try again: its process died, `last_lines` say of what
├── CrashLoop               mend it or evict it: its processes died too often
├── Evicted                 somebody evicted the model while the call waited
├── ShuttingDown            try again: the service ends, another may come
├── Recovering              try again: the service has just started
├── RevisionCompacted       begin the watch again, without a revision
├── InternalError           report it, with `request_id`
├── PoolUnavailable         the service cannot be reached
├── DeadlineExceeded        the caller's own timeout is over
└── Cancelled               the client or the hold was closed meanwhile

`status.py` makes them of what the service answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request or with the pool's state.

    subject: the request's field, or what the state is of; kind: a word for
    programs, empty if there is none.
    """

    subject: str
    description: str
    kind: str = ""


@dataclass(eq=False)
class PoolError(Exception):
    """A call that failed: `str()` of it says why, in words.

    reason: for programs, empty where the service gave none; retry_after: seconds
    after which another attempt may succeed, None if the service named none;
    last_lines: what the model's server wrote last, oldest first.
    """

    message: str
    code: StatusCode = field(default=StatusCode.UNKNOWN, kw_only=True)
    reason: str = field(default="", kw_only=True)
    metadata: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)
    last_lines: tuple[str, ...] = field(default=(), kw_only=True)
    violations: tuple[Violation, ...] = field(default=(), kw_only=True)
    request_id: str = field(default="", kw_only=True)

    def __str__(self) -> str:
        return self.message


class InvalidRequest(PoolError):
    """A field of the request is not valid."""


class RuntimeModelConflict(PoolError):
    """The model's server runs another runtime model than the one asked for."""


class ServerInUse(PoolError):
    """The server is held or has requests in flight.

    `metadata` has "requests" and "holds", how many, and "holders", their labels. "requests" is
    "unknown" where only open connections tell that it is busy.
    """


class RuntimeUnavailable(PoolError):
    """The runtime program is missing, not executable or too old."""


class ModelRejected(PoolError):
    """The runtime refused the model."""


class ModelUnknown(PoolError):
    """The service serves only what its configuration lists, and it is none of that."""


class ModelNotOnDisk(PoolError):
    """The model's files are not there, and the call did not allow to download them."""


class CodeNotTrusted(PoolError):
    """Loading the model would run code that it brings; `metadata` has its "files"."""


class FetchFailed(PoolError):
    """The model's files could not be downloaded."""


class ModelTooLarge(PoolError):
    """The model can never fit; `metadata` has "needed_bytes" and "budget_bytes"."""


class PoolFull(PoolError):
    """There was no room for the model as long as it could wait."""


class QueueFull(PoolError):
    """As many models wait for room as may."""


class ConfigInvalid(PoolError):
    """The service's configuration is not valid, so a reload changed nothing."""


class StartTimeout(PoolError):
    """The server was not ready within its start limit."""


class StartFailed(PoolError):
    """The server's process died before it was ready."""


class CrashLoop(PoolError):
    """The server's processes died too often; after `retry_after` one more try is made."""


class Evicted(PoolError):
    """The model was evicted while the call waited for it."""


class ShuttingDown(PoolError):
    """The service is about to end."""


class Recovering(PoolError):
    """The service has just started and is still finding the servers that run."""


class RevisionCompacted(PoolError):
    """The service's history does not reach the revision asked for."""


class InternalError(PoolError):
    """A bug of the service."""


class PoolUnavailable(PoolError):
    """The service cannot be reached, the connection to it broke, or it dropped the call."""


class DeadlineExceeded(PoolError):
    """The caller's timeout is over; what the service has begun goes on."""


class Cancelled(PoolError):
    """The call was given up: its client or its hold was closed.

    A task that is cancelled sees asyncio's own CancelledError.
    """
