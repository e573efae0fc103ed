"""Conversion between the client's values and protobuf messages; no other module does that."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service_client.status import Peer, no_pool_service_error
from pool_service_client.types import (
    EnsureResult,
    Event,
    EvictedServer,
    Exit,
    ExitCause,
    Expectation,
    Found,
    LogEnd,
    LogLines,
    Model,
    Page,
    Pinned,
    Progress,
    PromptCache,
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

_MAX_DURATION_S = 315_576_000_000
"""The limit of google.protobuf.Duration, about 10,000 years."""

_TIMES = (
    *("create_time", "start_time", "ready_time", "last_use_time", "expire_time"),
    "expected_ready_time",
)


KeepAlive = timedelta | float | None
"""Seconds or a timedelta; infinite or negative: for ever; None: as it is."""


def ensure_request(
    model: str, runtime_model: str | None, keep_alive: KeepAlive, *, download: bool | None
) -> pb.EnsureRequest:
    """Return the request. Raises ValueError if a text is not UTF-8 or keep_alive is NaN."""
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
    """Return the request. Raises ValueError as `ensure_request` does."""
    return pb.HoldRequest(
        model=model,
        runtime_model=runtime_model or "",
        keep_alive=_duration(keep_alive),
        download=download,
        holder=holder,
    )


def pull_request(model: str, runtime_model: str | None) -> pb.PullRequest:
    """Return the request. Raises ValueError if a text is not UTF-8."""
    return pb.PullRequest(model=model, runtime_model=runtime_model or "")


def _duration(value: KeepAlive) -> Duration | None:
    """Return the message; a duration that is too long for it becomes the longest.

    The service refuses that one with an error, while protobuf would raise its own.
    """
    if value is None:
        return None
    duration = Duration()
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if math.isinf(seconds) or seconds < -_MAX_DURATION_S:
        duration.seconds = -1
    elif seconds > _MAX_DURATION_S:
        duration.seconds = _MAX_DURATION_S
    elif isinstance(value, timedelta):
        duration.FromTimedelta(value)
    else:
        duration.FromNanoseconds(round(value * 1e9))
    return duration


def watch_request(after_revision: int | None) -> pb.WatchRequest:
    """Return a request for all changes after a revision; None: the present state first."""
    return pb.WatchRequest(after_revision=after_revision)


def ensure_result(response: pb.EnsureResponse, peer: Peer) -> EnsureResult:
    """Return the result. Raises PoolError if the answer has no server or no endpoint."""
    if not response.HasField("server"):
        raise no_pool_service_error(peer.address, "it names no server")
    if not response.server.endpoint:
        raise no_pool_service_error(peer.address, "its server has no endpoint")
    return EnsureResult(server(response.server, response.api_key), response.started)


def found(response: pb.GetResponse) -> Found:
    """Return the server of a model, if it has one."""
    return Found(server(response.server) if response.HasField("server") else None, response.answers)


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


def pinned(response: pb.PinResponse) -> Pinned:
    return Pinned(response.pinned, response.changed, response.configured)


def log_request(
    model: str,
    generation: int | None,
    *,
    previous: bool,
    oldest: bool,
    cursor: str,
    lines: int | None,
    follow: bool,
) -> pb.TailLogsRequest:
    """Return the request. Raises ValueError if it would begin in two places, or is out of range."""
    begins = {
        "generation": generation,
        "previous": previous or None,
        "oldest": oldest or None,
        "cursor": cursor or None,
    }
    given = {name: value for name, value in begins.items() if value is not None}
    if len(given) > 1:
        raise ValueError(f"only one of these can be given: {', '.join(given)}")
    request = pb.TailLogsRequest(model=model, lines=lines, follow=follow)
    for name, value in given.items():
        setattr(request, name, value)
    return request


def log_part(response: pb.TailLogsResponse) -> tuple[LogLines | LogEnd, ...]:
    """Return the lines of a message, and the end of the process if it tells that."""
    generation, cursor = response.generation, response.cursor
    lines = LogLines(generation, tuple(response.lines), response.missed_bytes, cursor)
    found: list[LogLines | LogEnd] = [lines] if lines.lines or lines.missed_bytes else []
    if response.ended:
        end = exit_of(response.exit) if response.HasField("exit") else None
        found.append(LogEnd(generation, end, cursor))
    return tuple(found)


def reloaded(response: pb.ReloadResponse) -> Reloaded:
    return Reloaded(
        replaced=tuple(response.replaced),
        updated=tuple(response.updated),
        removed=tuple(response.removed),
        restart_needed=tuple(response.restart_needed),
        problems=tuple(response.problems),
    )


def event(response: pb.WatchResponse) -> Event | None:
    """Return the event; None if this package does not know its kind."""
    match response.WhichOneof("event"):
        case "server":
            return ServerChanged(response.revision, server(response.server))
        case "removed":
            return ServerRemoved(response.revision, server(response.removed))
        case "synced":
            return Synced(response.revision)
        case _:
            return None


def server(message: pb.Server, api_key: str = "") -> Server:
    """Return the server. api_key: of the answer that has the message."""
    return Server(
        api_key=api_key,
        model=message.model,
        runtime_model=message.runtime_model,
        state=ServerState(message.state),
        generation=message.generation,
        endpoint=message.endpoint,
        served_model_name=message.served_model_name,
        pid=message.pid,
        detail=message.detail,
        last_exit=exit_of(message.last_exit) if message.HasField("last_exit") else None,
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
        prompt_cache=_prompt_cache(message),
        embedding_model_name=message.embedding_model_name,
        host=message.host,
        message=message,
        **_server_times(message),
    )


def _prompt_cache(message: pb.Server) -> PromptCache | None:
    cache = message.prompt_cache
    return (
        PromptCache(cache.disk_bytes, cache.tokens, cache.reused_tokens, cache.max_bytes)
        if message.HasField("prompt_cache")
        else None
    )


def _server_times(message: pb.Server) -> Mapping[str, datetime | None]:
    fields = {field.name: value for field, value in message.ListFields()}
    return {name: time_of(fields[name]) if name in fields else None for name in _TIMES}


def exit_of(message: pb.Exit) -> Exit:
    """Return the exit of a process."""
    return Exit(
        generation=message.generation,
        code=message.code if message.HasField("code") else None,
        signal=message.signal if message.HasField("signal") else None,
        cause=ExitCause(message.cause),
        message=message.message,
        last_lines=tuple(message.last_lines),
        time=time_of(message.time) if message.HasField("time") else None,
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
    """Return a number from 0 to 1; None for any other, such as NaN."""
    return value if 0 <= value <= 1 else None


def time_of(message: Timestamp) -> datetime | None:
    """Return the time; None if it is outside Python's calendar."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
