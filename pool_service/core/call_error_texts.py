"""The errors for callers that tell of no server's state: a front has some of them as well."""

from collections.abc import Sequence

from pool_service.core.errors import (
    Evicted,
    LogNotFound,
    Recovering,
    ServerInUse,
    ShuttingDown,
    TooManyFollowers,
    TooManyPins,
)

FOLLOWER_RETRY_S = 5.0
"""The time after which a caller should try again if too many streams follow logs."""


def shutting_down(model: str) -> ShuttingDown:
    """Return the error for requests that come, or still wait, while the service shuts down."""
    return ShuttingDown(
        f"the service is shutting down, so {model!r} cannot be ensured. Try again when it is back.",
        model=model,
    )


def detaching() -> ShuttingDown:
    """Return the error for evictions while the service ends and leaves its servers running."""
    return ShuttingDown(
        "the service is about to end and leaves its servers to the next one, which goes on with "
        "the stops under way. Evict again when it has started."
    )


def watch_ended() -> ShuttingDown:
    """Return the error for watchers when the service ends."""
    return ShuttingDown("the service is shutting down. Watch again when it is back.")


def front_ended() -> ShuttingDown:
    """Return the error for calls through a front that are in progress when it ends."""
    return ShuttingDown(
        "the front is shutting down; the members and their servers go on. Try again when it is "
        "back, or at another front."
    )


def logs_ended() -> ShuttingDown:
    """Return the error for those that follow a log when the service ends."""
    return ShuttingDown("the service is shutting down. Follow the log again when it is back.")


def log_not_found(model: str, kept: Sequence[int]) -> LogNotFound:
    """Return the error for a log that is not there; kept: the generations whose logs are."""
    if kept:
        named = ", ".join(map(str, kept))
        which = f"this log of {model!r} is not kept, but those of its generations {named} are"
    else:
        which = f"no log of {model!r} is kept: it has not been started, or its logs were removed"
    return LogNotFound(f"{which}.", model=model)


def too_many_followers(most: int) -> TooManyFollowers:
    """Return the error for a stream that would follow a log beside `most` others."""
    return TooManyFollowers(
        f"{most} streams follow logs already, and there may be no more. End one of them, or read "
        "the log without following it.",
        retry_after=FOLLOWER_RETRY_S,
    )


def too_many_readers(most: int) -> TooManyFollowers:
    """Return the error for a stream that would read a log, without following, beside `most`."""
    return TooManyFollowers(
        f"{most} streams read logs already, and there may be no more. Read the log later.",
        retry_after=FOLLOWER_RETRY_S,
    )


def too_many_pins(model: str, most: int, *, pinned: bool) -> TooManyPins:
    """Return the error for a pin that would have to be remembered beside `most` others.

    pinned: whether the model was to be pinned, or its configured pin to be taken back.
    """
    change = "pin the model in" if pinned else "take the pin of the model out of"
    return TooManyPins(
        f"the pins of {most} models are remembered already, and there may be no more, so that of "
        f"{model!r} is not changed. Take back pins that you do not need ('pool-service models "
        f"--json' says which are pinned), or {change} the configuration.",
        model=model,
    )


def evicted(model: str) -> Evicted:
    """Return the error for waiters and holders of a model that was evicted."""
    return Evicted(
        f"{model!r} was evicted while this call waited for it or held it. Ensure it again if it "
        "is still wanted.",
        model=model,
    )


def in_use(model: str, requests: int | None, holders: tuple[str, ...] = ()) -> ServerInUse:
    """Return the error for an eviction without force of a server in use.

    requests: in flight, None if unknown; holders: the labels of the holders.
    """
    uses = []
    if holders:
        names = sorted({name for name in holders if name})
        uses.append(f"is held by {len(holders)}" + (f" ({', '.join(names)})" if names else ""))
    if requests:
        uses.append(f"has {requests} request(s) in flight")
    elif requests is None:
        uses.append("has open connections, and its runtime cannot tell whether they are busy")
    return ServerInUse(
        f"{model!r} {' and '.join(uses)}, so it was not evicted. Try again later, or use force to "
        "drain it.",
        model=model,
        requests=requests or 0,
        counted=requests is not None,
        holders=holders,
    )


def recovering() -> Recovering:
    """Return the error for requests during the recovery of servers."""
    return Recovering(
        "the service has just started and is still finding the servers that run. Try again in "
        "a moment."
    )
