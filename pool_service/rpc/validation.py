"""Validation of request fields.

Each function returns the field's value as the pool uses it, or raises InvalidField.
"""

import base64

from pool_service.access.fence import MAX_EPOCH
from pool_service.core.errors import InvalidField
from pool_service.core.names import holder_flaw, model_flaw, runtime_model_flaw
from pool_service.core.types import FOREVER, MAX_DURATION_S
from pool_service.v1 import pool_service_pb2 as pb

DEFAULT_PAGE_SIZE = 100
LARGEST_PAGE_SIZE = 1000
MAX_LOG_LINES = 10_000


def model(value: str, field_name: str = "model") -> str:
    """Return the model's name of a request."""
    flaw = model_flaw(value)
    if flaw:
        raise invalid(field_name, flaw)
    return value


def runtime_model(value: str) -> str:
    """Return the runtime model that the runtime is to load; empty if not given."""
    flaw = runtime_model_flaw(value) if value else None
    if flaw:
        raise invalid("runtime_model", flaw)
    return value


def keep_alive(request: pb.EnsureRequest | pb.HoldRequest) -> float | None:
    """Return keep_alive in seconds: FOREVER for a negative duration, None if not given."""
    if not request.HasField("keep_alive"):
        return None
    duration = request.keep_alive
    seconds = duration.seconds + duration.nanos / 1e9
    if abs(duration.nanos) >= 10**9 or duration.seconds * duration.nanos < 0:
        raise invalid("keep_alive", "is not a valid duration")
    if seconds > MAX_DURATION_S:
        raise invalid("keep_alive", "is over ten years; a negative duration means for ever")
    return FOREVER if seconds < 0 else seconds


def download(request: pb.EnsureRequest | pb.HoldRequest | pb.OfferRequest) -> bool | None:
    """Return whether missing files may be downloaded; None if not given."""
    return request.download if request.HasField("download") else None


def holder(value: str) -> str:
    """Return the label of the holder of a server; may be empty."""
    flaw = holder_flaw(value) if value else None
    if flaw:
        raise invalid("holder", flaw)
    return value


def epoch(request: pb.BeatRequest) -> int:
    """Return the epoch with which the front leads; 0: it does not."""
    if request.epoch > MAX_EPOCH:
        raise invalid("epoch", f"is over {MAX_EPOCH}")
    return request.epoch


def front(request: pb.BeatRequest) -> str:
    """Return the name of the front's process; it may be empty if the front does not lead."""
    flaw = holder_flaw(request.front) if request.front or request.epoch else None
    if flaw:
        raise invalid("front", flaw)
    return request.front


def hold(request: pb.EndHoldRequest) -> str:
    """Return the name of the hold to end."""
    flaw = holder_flaw(request.hold)
    if flaw:
        raise invalid("hold", flaw)
    return request.hold


def check_target(request: pb.EvictRequest) -> None:
    """Check which servers are to be evicted."""
    match request.WhichOneof("target"):
        case "model":
            model(request.model)
        case "idle" if request.idle and request.force:
            raise invalid("force", "cannot go with idle, which leaves out what is in use")
        case "idle" | "all" if request.idle or request.all:
            return
        case None:
            raise invalid("target", "must be one of: a model, idle, all")
        case which:
            raise invalid("target", f"cannot be {which} = false: leave it out")


def page(request: pb.ListRequest | pb.ListModelsRequest) -> tuple[str | None, int]:
    """Return the model after which the page begins (None: at the first), and the page's size."""
    if request.page_size < 0:
        raise invalid("page_size", "must not be negative")
    size = min(request.page_size or DEFAULT_PAGE_SIZE, LARGEST_PAGE_SIZE)
    if not request.page_token:
        return None, size
    try:
        after = base64.urlsafe_b64decode(request.page_token.encode()).decode()
    except ValueError:
        after = ""
    # The decoder skips unknown characters.
    if page_token(after) != request.page_token:
        raise invalid("page_token", "is not one that this call returned")
    return after, size


def server_page(request: pb.ListRequest) -> tuple[tuple[str, int] | None, int]:
    """Return the server after which the page begins (None: at the first), and the page's size.

    The server by its model and its generation.
    """
    after, size = page(request)
    if after is None:
        return None, size
    generation, _, model = after.partition(" ")
    if not generation.isascii() or not generation.isdigit():
        raise invalid("page_token", "is not one that this call returned")
    return (model, int(generation)), size


def server_token(last: pb.Server) -> str:
    """Return the token of the page after the one whose last server is `last`."""
    return page_token(f"{last.generation} {last.model}")


def page_token(last: str) -> str:
    """Return the token of the page after the one whose last model is `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def after_revision(request: pb.WatchRequest) -> int | None:
    """Return the revision to resume after; None to begin with the present state."""
    return request.after_revision if request.HasField("after_revision") else None


def pinned(request: pb.PinRequest) -> bool | None:
    """Return whether the model is to be pinned; None: as the configuration says."""
    return request.pinned if request.HasField("pinned") else None


def invalid(field_name: str, what: str) -> InvalidField:
    """Return the error for a field that is not valid, for a reason."""
    return InvalidField(f"{field_name} {what}.", field_name=field_name)
