"""Between values and messages. Nothing else builds a request or reads a response."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

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
from pool_service_client.v1 import pool_service_pb2 as pb

# Seconds: the most that google.protobuf.Duration takes, about 10,000 years.
_LONGEST_DURATION = 315_576_000_000
_TIMES = ("create_time", "start_time", "ready_time", "last_use_time", "expire_time")


def ensure_request(
    model: str, runtime_model: str | None, keep_alive: timedelta | float | None
) -> pb.EnsureRequest:
    """keep_alive: seconds or a timedelta; infinity stands for any negative one.

    Raises ValueError for text that has no UTF-8, and for a keep_alive that is no number.
    """
    request = pb.EnsureRequest(model=model, runtime_model=runtime_model or "")
    if keep_alive is not None:
        request.keep_alive.CopyFrom(_duration(keep_alive))
    return request


def _duration(value: timedelta | float) -> Duration:
    """What is too long for a message is sent as the longest, which the service refuses."""
    duration = Duration()
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if math.isinf(seconds) or seconds < -_LONGEST_DURATION:
        duration.seconds = -1
    elif seconds > _LONGEST_DURATION:
        duration.seconds = _LONGEST_DURATION
    elif isinstance(value, timedelta):
        duration.FromTimedelta(value)
    else:
        duration.FromNanoseconds(round(value * 1e9))
    return duration


def watch_request(after_revision: int | None) -> pb.WatchRequest:
    """A request for the present state and what follows, or for what follows a revision."""
    return pb.WatchRequest(after_revision=after_revision)


def ensure_result(response: pb.EnsureResponse) -> EnsureResult:
    return EnsureResult(server(response.server), response.started)


def evicted_servers(response: pb.EvictResponse) -> tuple[EvictedServer, ...]:
    return tuple(EvictedServer(server(one.server), one.killed) for one in response.evicted)


def page(response: pb.ListResponse) -> Page:
    return Page(
        servers=tuple(server(message) for message in response.servers),
        revision=response.revision,
        totals=_totals(response.totals),
        notices=tuple(response.notices),
    )


def event(response: pb.WatchResponse) -> Event | None:
    """The event, or None for a kind that this package does not know."""
    match response.WhichOneof("event"):
        case "server":
            return ServerChanged(response.revision, server(response.server))
        case "removed":
            return ServerRemoved(response.revision, server(response.removed))
        case "synced":
            return Synced(response.revision)
        case _:
            return None


def server(message: pb.Server) -> Server:
    return Server(
        model=message.model,
        runtime_model=message.runtime_model,
        state=ServerState(message.state),
        generation=message.generation,
        endpoint=message.endpoint,
        served_model_name=message.served_model_name,
        pid=message.pid,
        detail=message.detail,
        last_exit=_exit(message.last_exit) if message.HasField("last_exit") else None,
        log_path=message.log_path,
        message=message,
        **_server_times(message),
    )


def _server_times(message: pb.Server) -> Mapping[str, datetime | None]:
    said = {field.name: value for field, value in message.ListFields()}
    return {name: _time(said[name]) if name in said else None for name in _TIMES}


def _exit(message: pb.Exit) -> Exit:
    return Exit(
        generation=message.generation,
        code=message.code if message.HasField("code") else None,
        signal=message.signal if message.HasField("signal") else None,
        cause=ExitCause(message.cause),
        message=message.message,
        last_lines=tuple(message.last_lines),
        time=_time(message.time) if message.HasField("time") else None,
    )


def _totals(message: pb.PoolTotals) -> Totals:
    return Totals(
        servers=message.servers,
        queued=message.queued,
        starting=message.starting,
        ready=message.ready,
        stopping=message.stopping,
        failed=message.failed,
        backing_off=message.backing_off,
        waiting_calls=message.waiting_calls,
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)
