"""Between values and messages. Nothing else builds a request or reads a response."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service_client.status import Peer, no_pool_service
from pool_service_client.types import (
    EnsureResult,
    Event,
    EvictedServer,
    Exit,
    ExitCause,
    Expectation,
    Model,
    Page,
    Progress,
    Reloaded,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerRole,
    ServerState,
    Synced,
    Totals,
)
from pool_service_client.v1 import pool_service_pb2 as pb

# Seconds: the most that google.protobuf.Duration takes, about 10,000 years.
_LONGEST_DURATION = 315_576_000_000
_TIMES = ("create_time", "start_time", "ready_time", "last_use_time", "expire_time")


KeepAlive = timedelta | float | None
"""Seconds or a timedelta; infinity stands for any negative one; None: as it is."""


def ensure_request(
    model: str, runtime_model: str | None, keep_alive: KeepAlive, *, download: bool | None
) -> pb.EnsureRequest:
    """Raises ValueError for text that has no UTF-8, and for a keep_alive that is no number."""
    return pb.EnsureRequest(
        model=model,
        runtime_model=runtime_model or "",
        keep_alive=_duration(keep_alive),
        download=download,
    )


def hold_request(
    model: str,
    runtime_model: str | None,
    keep_alive: KeepAlive,
    *,
    download: bool | None,
    holder: str,
) -> pb.HoldRequest:
    """Raises ValueError as `ensure_request` does."""
    return pb.HoldRequest(
        model=model,
        runtime_model=runtime_model or "",
        keep_alive=_duration(keep_alive),
        download=download,
        holder=holder,
    )


def pull_request(model: str, runtime_model: str | None) -> pb.PullRequest:
    """Raises ValueError for text that has no UTF-8."""
    return pb.PullRequest(model=model, runtime_model=runtime_model or "")


def _duration(value: KeepAlive) -> Duration | None:
    """What is too long for a message is sent as the longest, which the service refuses."""
    if value is None:
        return None
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


def ensure_result(response: pb.EnsureResponse, peer: Peer) -> EnsureResult:
    """Raises PoolError for an answer without a server, or without its endpoint."""
    if not response.HasField("server"):
        raise no_pool_service(peer.address, "it names no server")
    if not response.server.endpoint:
        raise no_pool_service(peer.address, "its server has no endpoint")
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


def models(response: pb.ListModelsResponse) -> tuple[Model, ...]:
    return tuple(_model(message) for message in response.models)


def _model(message: pb.Model) -> Model:
    return Model(
        model=message.model,
        aliases=tuple(message.aliases),
        runtime_model=message.runtime_model,
        runtime=message.runtime,
        groups=tuple(message.groups),
        pinned=message.pinned,
        preload=message.preload,
        expected_bytes=message.expected_bytes,
        expected_by=Expectation(message.expected_by),
        on_disk=message.on_disk if message.HasField("on_disk") else None,
        problem=message.problem,
        disk_bytes=message.disk_bytes,
        state=ServerState(message.state) if message.state else None,
        listed=message.listed,
        message=message,
    )


def progress(response: pb.PullResponse) -> Progress:
    return Progress(response.done_bytes, response.total_bytes)


def reloaded(response: pb.ReloadResponse) -> Reloaded:
    return Reloaded(
        replaced=tuple(response.replaced),
        updated=tuple(response.updated),
        removed=tuple(response.removed),
        restart_needed=tuple(response.restart_needed),
        problems=tuple(response.problems),
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
        queue_position=message.queue_position,
        progress=_share(message.progress) if message.HasField("progress") else None,
        expected_bytes=message.expected_bytes,
        expected_by=Expectation(message.expected_by),
        footprint_bytes=message.footprint_bytes,
        peak_bytes=message.peak_bytes,
        holds=message.holds,
        pinned=message.pinned,
        outdated=message.outdated,
        role=ServerRole(message.role),
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
        memory_budget_bytes=_budget(message),
        memory_reserved_bytes=message.memory_reserved_bytes,
        memory_available_bytes=message.memory_available_bytes,
        memory_total_bytes=message.memory_total_bytes,
        memory_pressured=message.memory_pressured,
        standbys=message.standbys,
    )


def _budget(message: pb.PoolTotals) -> int | None:
    return message.memory_budget_bytes if message.HasField("memory_budget_bytes") else None


def _share(value: float) -> float | None:
    """It, or None for what is no share, such as NaN."""
    return value if 0 <= value <= 1 else None


def _time(message: Timestamp) -> datetime | None:
    """The time, or None for one that no calendar of Python has."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
