"""Conversion of the pool's values to protobuf messages."""

from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service.change_history import Change
from pool_service.core.catalogue import Entry
from pool_service.core.offer import Offer, OfferVerdict
from pool_service.core.results import Ensured, Reloaded, Removed, Totals
from pool_service.core.server import Cause, Exit, Phase, Role, Server, ServerId
from pool_service.core.server_logs import LogEnd, LogPart
from pool_service.core.types import FOREVER, EstimateSource
from pool_service.ports import Clock
from pool_service.rpc.log_validation import log_cursor
from pool_service.rpc.status import sendable
from pool_service.v1 import pool_service_pb2 as pb

K = TypeVar("K")
T = TypeVar("T")

STATES = {
    Phase.QUEUED: pb.SERVER_STATE_QUEUED,
    Phase.PREPARING: pb.SERVER_STATE_STARTING,
    Phase.SPAWNING: pb.SERVER_STATE_STARTING,
    Phase.STARTING: pb.SERVER_STATE_STARTING,
    Phase.READY: pb.SERVER_STATE_READY,
    Phase.STOPPING: pb.SERVER_STATE_STOPPING,
    Phase.CLEANING_UP: pb.SERVER_STATE_STOPPING,
    Phase.BACKING_OFF: pb.SERVER_STATE_BACKING_OFF,
    Phase.FAILED: pb.SERVER_STATE_FAILED,
}

ROLES = {
    Role.CURRENT: pb.SERVER_ROLE_CURRENT,
    Role.SUCCESSOR: pb.SERVER_ROLE_SUCCESSOR,
    Role.SUPERSEDED: pb.SERVER_ROLE_SUPERSEDED,
    Role.ORPHAN: pb.SERVER_ROLE_ORPHAN,
}

CAUSES = {
    Cause.CRASHED: pb.EXIT_CAUSE_CRASHED,
    Cause.EVICTED: pb.EXIT_CAUSE_EVICTED,
    Cause.IDLE: pb.EXIT_CAUSE_IDLE,
    Cause.START_TIMEOUT: pb.EXIT_CAUSE_START_TIMEOUT,
    Cause.SHUTDOWN: pb.EXIT_CAUSE_SHUTDOWN,
    Cause.WEDGED: pb.EXIT_CAUSE_WEDGED,
    Cause.ORPHANED: pb.EXIT_CAUSE_ORPHANED,
    Cause.PREEMPTED: pb.EXIT_CAUSE_PREEMPTED,
    Cause.RELOADED: pb.EXIT_CAUSE_RELOADED,
    Cause.MEMORY_LIMIT: pb.EXIT_CAUSE_MEMORY_LIMIT,
}

EXPECTATIONS = {
    EstimateSource.DECLARED: pb.EXPECTATION_DECLARED,
    EstimateSource.OBSERVED: pb.EXPECTATION_OBSERVED,
    EstimateSource.WEIGHTS: pb.EXPECTATION_WEIGHTS,
    EstimateSource.UNKNOWN: pb.EXPECTATION_GUESS,
}

VERDICTS = {
    OfferVerdict.WARM: pb.OFFER_VERDICT_WARM,
    OfferVerdict.FITS: pb.OFFER_VERDICT_FITS,
    OfferVerdict.EVICTS: pb.OFFER_VERDICT_EVICTS,
    OfferVerdict.WAITS: pb.OFFER_VERDICT_WAITS,
    OfferVerdict.NEVER: pb.OFFER_VERDICT_NEVER,
}

MAX_CACHED = 4096
"""The most cached messages of each kind, some hundred bytes each."""


class Wire:
    """Makes protobuf messages; the clock converts the pool's times to Unix time.

    host: the name of this host in its fleet; empty: it is in none.
    """

    def __init__(self, clock: Clock, host: str = "") -> None:
        self._clock = clock
        self._host = host
        self._servers: dict[ServerId, tuple[Server, pb.Server]] = {}
        self._responses: dict[str, tuple[Server, pb.EnsureResponse]] = {}
        """By model: only its current server is handed out, and a str is the quickest key."""

    def ensured(self, ensured: Ensured) -> pb.EnsureResponse:
        """Return the response of Ensure."""
        if ensured.started:
            server = ensured.server
            key = api_key(server)
            return pb.EnsureResponse(server=self.server(server), started=True, api_key=key)
        return self.unchanged(ensured.server)

    def unchanged(self, server: Server) -> pb.EnsureResponse:
        """Return the response of an Ensure that started nothing, cached for the same server."""
        known, response = self._responses.get(server.model, (None, None))
        if known is not server or response is None:
            response = pb.EnsureResponse(server=self.server(server), api_key=api_key(server))
            _cache(self._responses, server.model, server, response)
        return response

    def held(self, server: Server) -> pb.HoldResponse:
        """Return the response of Hold with the present state of the server."""
        return pb.HoldResponse(server=self.server(server), api_key=api_key(server))

    def server(self, server: Server) -> pb.Server:
        """Return the message of one server, cached for all its receivers."""
        known, message = self._servers.get(server.id, (None, None))
        if known is not server or message is None:
            message = self._server(server)
            _cache(self._servers, server.id, server, message)
        return message

    def _server(self, server: Server) -> pb.Server:
        ready = server.phase is Phase.READY
        message = pb.Server(
            model=server.model,
            runtime_model=server.settings.runtime_model,
            state=STATES[server.phase],
            generation=server.generation,
            create_time=self.time(server.created_at),
            start_time=self.time_if_any(server.spawned_at),
            ready_time=self.time_if_any(server.ready_at),
            last_use_time=self.time(server.last_used_at),
            expire_time=self.time_if_any(server.expires_at if ready else None),
            expected_ready_time=self.time_if_any(server.expected_ready_at),
            detail=sendable(server.detail),
            log_path=sendable(server.log_path),
            queue_position=server.position,
            progress=server.progress,
            expected_bytes=server.expected,
            footprint_bytes=server.footprint,
            peak_bytes=server.peak,
            holds=server.holds,
            pinned=server.settings.pinned,
            outdated=server.outdated,
            role=ROLES[server.role],
            prompt_cache=_prompt_cache(server),
            host=self._host,
        )
        if server.expected:
            message.expected_by = EXPECTATIONS[server.expected_by]
        if server.identity is not None:
            message.pid = server.identity.pid
        if ready and server.plan is not None:
            message.endpoint = server.endpoint
            message.served_model_name = server.plan.served_model_name
            message.embedding_model_name = server.plan.embedding_model_name
        if server.last_exit is not None:
            message.last_exit.CopyFrom(self.exit(server.last_exit))
        return message

    def change(self, change: Change[Server]) -> pb.WatchResponse:
        """Return one change as an event of Watch."""
        server = self.server(change.server)
        if change.removed:
            return pb.WatchResponse(revision=change.revision, removed=server)
        return pb.WatchResponse(revision=change.revision, server=server)

    def log(self, part: LogPart | LogEnd) -> pb.TailLogsResponse:
        """Return some lines of a log, or the end of its process."""
        generation, cursor = part.position.generation, log_cursor(part.position)
        if isinstance(part, LogPart):
            return pb.TailLogsResponse(
                generation=generation,
                lines=map(sendable, part.lines),
                missed_bytes=part.missed_bytes,
                cursor=cursor,
            )
        end = None if part.exit is None else self.exit(part.exit)
        return pb.TailLogsResponse(generation=generation, ended=True, exit=end, cursor=cursor)

    def removed(self, removed: Removed) -> pb.EvictedServer:
        """Return the message of a server that an eviction removed."""
        return pb.EvictedServer(server=self.server(removed.server), killed=removed.killed)

    def exit(self, end: Exit) -> pb.Exit:
        """Return the message of the exit of a process."""
        return pb.Exit(
            generation=end.generation,
            code=end.report.code,
            signal=end.report.signal,
            cause=CAUSES[end.cause],
            message=sendable(end.report.message),
            last_lines=map(sendable, end.report.last_lines),
            time=self.time(end.at),
        )

    def time_if_any(self, at: float | None) -> Timestamp | None:
        """Return a time of the pool's clock as Unix time; None if there is none."""
        return None if at is None or at == FOREVER else self.time(at)

    def time(self, at: float) -> Timestamp:
        """Return a time of the pool's clock as Unix time."""
        seconds, fraction = divmod(self._clock.wall(at), 1.0)
        return Timestamp(seconds=int(seconds), nanos=int(fraction * 1e9))


def api_key(server: Server) -> str:
    """Return the key that requests to a server must show, as long as it has an endpoint."""
    return server.plan.api_key if server.phase is Phase.READY and server.plan else ""


def _prompt_cache(server: Server) -> pb.PromptCache | None:
    cache = server.plan.prompt_cache if server.plan else None
    if cache is None:
        return None
    return pb.PromptCache(
        disk_bytes=cache.disk_bytes,
        tokens=cache.tokens,
        reused_tokens=server.reused_tokens,
        max_bytes=cache.max_bytes,
    )


def state_name(phase: Phase) -> str:
    """Return the name that a phase has on the wire, such as SERVER_STATE_READY."""
    return pb.ServerState.Name(STATES[phase])


def role_name(role: Role) -> str:
    """Return the name that a role has on the wire, such as SERVER_ROLE_CURRENT."""
    return pb.ServerRole.Name(ROLES[role])


def totals(counts: Totals) -> pb.PoolTotals:
    """Return the totals of the pool, with counts by the states of the API."""
    by_state = dict.fromkeys(STATES.values(), 0)
    for phase, number in counts.by_phase.items():
        by_state[STATES[phase]] += number
    return pb.PoolTotals(
        servers=counts.servers,
        queued=by_state[pb.SERVER_STATE_QUEUED],
        starting=by_state[pb.SERVER_STATE_STARTING],
        ready=by_state[pb.SERVER_STATE_READY],
        stopping=by_state[pb.SERVER_STATE_STOPPING],
        failed=by_state[pb.SERVER_STATE_FAILED],
        waiting_calls=counts.waiting_calls,
        backing_off=by_state[pb.SERVER_STATE_BACKING_OFF],
        memory_budget_bytes=_limit_bytes(counts.memory_budget),
        memory_reserved_bytes=counts.memory_reserved,
        memory_available_bytes=counts.memory_available,
        memory_total_bytes=counts.memory_total,
        memory_pressured=counts.memory_pressured and counts.memory_current,
        standbys=counts.standbys,
    )


def model(entry: Entry) -> pb.Model:
    """Return the message of a model of the catalogue."""
    settings = entry.settings
    message = pb.Model(
        model=entry.model,
        aliases=entry.aliases,
        runtime_model=settings.runtime_model,
        runtime=settings.runtime,
        groups=settings.groups,
        pinned=settings.pinned,
        preload=settings.preload,
        problem=entry.flaw,
        listed=entry.listed,
    )
    if entry.phase is not None:
        message.state = STATES[entry.phase]
    if entry.estimate is not None:
        message.expected_bytes = entry.estimate.expected
        message.expected_by = EXPECTATIONS[entry.estimate.source]
        message.disk_bytes = entry.estimate.disk_bytes
        if entry.estimate.on_disk is not None:
            message.on_disk = entry.estimate.on_disk
    return message


def offer(made: Offer) -> pb.OfferResponse:
    """Return the response of Offer."""
    return pb.OfferResponse(
        verdict=VERDICTS[made.verdict],
        model=made.model,
        runtime_model=made.runtime_model,
        on_disk=made.on_disk,
        usual_load=None if made.usual_load_s is None else duration(made.usual_load_s),
        needed_bytes=made.needed,
        free_bytes=made.free,
        evicted_bytes=made.evicted,
        evictable_bytes=made.evictable,
        reason=made.error.reason if made.error is not None else "",
        message=sendable(made.error.message) if made.error is not None else "",
        revision=made.revision,
        listed=made.listed,
        queued=made.queued,
    )


def duration(seconds: float) -> Duration:
    """Return the message of a duration."""
    message = Duration()
    message.FromNanoseconds(int(seconds * 1e9))
    return message


def reloaded(result: Reloaded) -> pb.ReloadResponse:
    """Return the response of Reload."""
    return pb.ReloadResponse(
        replaced=result.replaced,
        updated=result.updated,
        removed=result.removed,
        restart_needed=result.restart_needed,
        problems=result.problems,
    )


def _cache(cache: dict[K, tuple[Server, T]], key: K, server: Server, message: T) -> None:
    if len(cache) >= MAX_CACHED:
        cache.clear()
    cache[key] = server, message


def _limit_bytes(count: float) -> int | None:
    """Return a limit in bytes; None if there is no limit."""
    return None if count == FOREVER else int(count)
