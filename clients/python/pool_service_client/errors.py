"""The errors of the clients, and what you can do about each.

PoolError                   the base class, and any error that this package does not know
├── InvalidRequest          correct the request: `violations` name the fields
├── RuntimeModelConflict    ask without a runtime model, or evict the model first
├── ServerInUse             wait, or evict with force: `metadata` says who holds the server
├── RuntimeUnavailable      install or configure the runtime on the service's machine
├── ModelRejected           ask for another model: the runtime refused this one
├── ModelUnknown            ask for a model of the catalogue: no other is served
├── ModelNotOnDisk          pull the model first, or allow the download
├── CodeNotTrusted          trust the model's code in the service's configuration
├── FetchFailed             try again: the download failed
├── ModelTooLarge           raise the budget, or ask for a smaller model: this one never fits
├── PoolFull                try again: there was no room in time
├── QueueFull               try again: too many models wait for room
├── ConfigInvalid           correct the service's configuration: nothing was changed
├── StartTimeout            try again: the server was not ready in time
├── StartFailed             try again: the server's process died, `last_lines` say why
├── CrashLoop               repair or evict the model: its processes died too often
├── Evicted                 ask again if you still need it: somebody evicted the model
├── ShuttingDown            try again: the service ends, and another one may start
├── Recovering              try again: the service has just started
├── RevisionCompacted       watch again without a revision
├── LogNotFound             start the model first, or ask for another generation
├── TooManyFollowers        try again: as many streams follow logs as may
├── TooManyPins             take back pins that you do not need: no more are remembered
├── TokenMissing            send a token: nothing else tells the service who calls
├── TokenUnknown            ask the operator for another token: yours is not known
├── CertificateUnknown      have a name of your certificate added to the configuration
├── ScopeMissing            ask the operator for a token that allows the call
├── QuotaExceeded           release something, or try again: your own limit is reached
├── PoolUnreachable         try again: the front of the fleet sees no member that it may ask now
├── FleetOnly               call the front of the fleet: this member starts servers for it only
├── InternalError           report the bug, with `request_id`
├── ServiceNotStarted       install the service, or mend what the message says
├── PoolUnavailable         start the service, or correct its address
├── DeadlineExceeded        allow more time: your timeout is over
└── Cancelled               the client or the hold was closed meanwhile

`status.py` creates them from the service's answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from grpc import StatusCode


@dataclass(frozen=True, slots=True)
class Violation:
    """A problem of a request or of the pool's state.

    subject: the field of the request, or the part of the pool.
    kind: the kind of the problem for programs; empty if there is none.
    """

    subject: str
    description: str
    kind: str = ""


@dataclass(eq=False)
class PoolError(Exception):
    """A failed call; `str()` returns the message.

    reason: the reason for programs; empty if the service gave none.
    retry_after: the seconds after which another attempt may succeed; None if not known.
    last_lines: the last lines of the server's log, the oldest first.
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

    `metadata` has the numbers of "requests" and "holds", and the labels of the "holders".
    "requests" is "unknown" if only open connections show that the server is busy.
    """


class RuntimeUnavailable(PoolError):
    """The runtime program is missing, not executable or too old."""


class ModelRejected(PoolError):
    """The runtime refused the model."""


class ModelUnknown(PoolError):
    """The service serves only listed models, and this one is not listed."""


class ModelNotOnDisk(PoolError):
    """The model's files are not on the service's machine, and the download was not allowed."""


class CodeNotTrusted(PoolError):
    """Loading the model would run code that it brings; `metadata` has its "files"."""


class FetchFailed(PoolError):
    """The model's files could not be downloaded."""


class ModelTooLarge(PoolError):
    """The model can never fit; `metadata` has "needed_bytes" and "budget_bytes"."""


class PoolFull(PoolError):
    """There was no room for the model within the time that it may wait."""


class QueueFull(PoolError):
    """The queue of models that wait for room is full."""


class ConfigInvalid(PoolError):
    """The service's configuration is not valid, so a reload changed nothing."""


class StartTimeout(PoolError):
    """The start stood still, or took longer than its limit."""


class StartFailed(PoolError):
    """The server's process died before it was ready."""


class CrashLoop(PoolError):
    """The server's processes died too often; after `retry_after` one more try is made."""


class Evicted(PoolError):
    """The model was evicted while the call waited for it."""


class ShuttingDown(PoolError):
    """The service is shutting down."""


class Recovering(PoolError):
    """The service has just started and is still finding the servers that run."""


class RevisionCompacted(PoolError):
    """The service's history does not reach the revision asked for."""


class LogNotFound(PoolError):
    """No such log is kept."""


class TooManyFollowers(PoolError):
    """As many streams follow logs as may."""


class TooManyPins(PoolError):
    """The service remembers no more pins; take back some that you do not need."""


class TokenMissing(PoolError):
    """The service does not know who calls, and needs a token by this address.

    `metadata` has the caller's "user", a uid, if the service knows that.
    """


class TokenUnknown(PoolError):
    """The token is none of the service's: it is mistyped, expired or was revoked."""


class CertificateUnknown(PoolError):
    """No client of the service's configuration has a name of the certificate.

    `metadata` has its "names".
    """


class ScopeMissing(PoolError):
    """The token does not allow the call; `metadata` has the scope "needed" and the own "scope"."""


class QuotaExceeded(PoolError):
    """A limit of your token is reached; `metadata` has which "limit", and its "most".

    The limits are "holds", "waiting" (calls), "streams" and "starts" (a minute).
    """


class PoolUnreachable(PoolError):
    """The front of a fleet sees no member that it may ask now."""


class FleetOnly(PoolError):
    """The service is a member of a fleet and starts servers for the fleet's front only."""


class InternalError(PoolError):
    """A bug of the service."""


class ServiceNotStarted(PoolError):
    """No service runs, and none could be started; `last_lines` is what the program wrote."""


class PoolUnavailable(PoolError):
    """The service cannot be reached, the connection to it broke, or it dropped the call."""


class DeadlineExceeded(PoolError):
    """The caller's timeout is over; work that the service has begun goes on."""


class Cancelled(PoolError):
    """The client or the hold was closed during the call.

    A cancelled task gets asyncio's own CancelledError instead.
    """
