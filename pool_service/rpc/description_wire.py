"""Conversion of descriptions of models to protobuf messages, of less than 1 MiB each."""

from pool_service.core.admission import PreemptionClass
from pool_service.core.description import Description, InLine, Restarts
from pool_service.core.runs import Origin, Run
from pool_service.core.server import Exit, Phase
from pool_service.core.story import Choice, Decision, Weighed
from pool_service.core.types import FOREVER
from pool_service.rpc.status import sendable
from pool_service.rpc.wire import EXPECTATIONS, ROLES, STATES, Wire, duration
from pool_service.v1 import pool_service_pb2 as pb

MAX_ALIASES = 100
MAX_CALLERS = 500
"""Holders, and waiting calls."""

MAX_IN_LINE = 32
"""Servers that would be stopped next."""

MAX_WEIGHED = 8
"""Servers that a decision chose, and that it passed over."""

MAX_BYTES = 1024 * 1024
"""The size that a response does not exceed, since the oldest decisions are left out then."""

LONGEST_TEXT = 2000
"""Characters of a text in words."""

ORIGINS = {
    Origin.UNKNOWN: pb.RUN_ORIGIN_UNSPECIFIED,
    Origin.COLD: pb.RUN_ORIGIN_COLD,
    Origin.STANDBY: pb.RUN_ORIGIN_STANDBY,
    Origin.ADOPTED: pb.RUN_ORIGIN_ADOPTED,
}


class DescriptionWire:
    """Makes the messages of Describe; `wire` makes those of servers and times."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def response(self, described: Description) -> pb.DescribeResponse:
        """Return the response of Describe."""
        message = pb.DescribeResponse(
            model=described.model,
            aliases=described.aliases[:MAX_ALIASES],
            listed=described.is_listed,
            settings=[
                pb.Setting(
                    key=one.key,
                    value=sendable(one.value),
                    source=sendable(one.source),
                    running=sendable(one.running),
                )
                for one in described.sources
            ],
            servers=map(self._wire.server, described.servers),
            problem=_text(described.flaw),
            runs=map(self._run, described.runs),
            holders=[
                pb.Holder(label=one.label, since=self._wire.time(one.since))
                for one in described.holders[:MAX_CALLERS]
            ],
            holds=len(described.holders),
            waiting=[
                pb.WaitingCall(
                    since=self._wire.time(one.since),
                    hold=one.is_hold,
                    holder=one.holder,
                    own=one.is_own,
                )
                for one in described.waiting[:MAX_CALLERS]
            ],
            waiting_calls=sum(not one.is_own for one in described.waiting),
            queue_time=self._wire.time_if_any(described.queued_since),
            next_to_go=map(self._in_line, described.order[:MAX_IN_LINE]),
            eviction_position=_position(described),
            eviction_candidates=len(described.order),
            kept_because=described.protected,
            decisions=map(self._decision, described.decisions),
        )
        if described.last_run is not None and described.last_run.last_exit is not None:
            message.last_exit.CopyFrom(self._wire.exit(described.last_run.last_exit))
        _add_estimate(message, described)
        self._add_restarts(message, described.restarts)
        while message.decisions and message.ByteSize() > MAX_BYTES:
            del message.decisions[0]
        return message

    def _add_restarts(self, message: pb.DescribeResponse, restarts: Restarts) -> None:
        message.crash_times.extend(map(self._wire.time, restarts.crashes))
        message.crash_limit = restarts.limit
        message.crash_window.CopyFrom(duration(restarts.window))
        if restarts.retry_at:
            message.retry_time.CopyFrom(self._wire.time(restarts.retry_at))
        if restarts.failure is not None:
            message.failure_reason = restarts.failure.reason
            message.failure_message = _text(str(restarts.failure))

    def _run(self, run: Run) -> pb.Run:
        return pb.Run(
            generation=run.generation,
            origin=ORIGINS[run.origin],
            create_time=self._wire.time_if_any(run.queued_at),
            admit_time=self._wire.time_if_any(run.admitted_at),
            start_time=self._wire.time_if_any(run.spawned_at),
            ready_time=self._wire.time_if_any(run.ready_at),
            stop_time=self._wire.time_if_any(run.stopped_at),
            end_time=self._wire.time_if_any(run.ended_at),
            exit=self._short_exit(run.exit),
            peak_bytes=run.peak,
            load=None if run.load_s is None else duration(run.load_s),
        )

    def _short_exit(self, end: Exit | None) -> pb.Exit | None:
        if end is None:
            return None
        message = self._wire.exit(end)
        message.message = _text(message.message)
        del message.last_lines[:]
        return message

    def _in_line(self, one: InLine) -> pb.EvictionCandidate:
        return pb.EvictionCandidate(
            model=one.server_id.model,
            generation=one.server_id.generation,
            busy=one.is_busy,
            freed_bytes=one.freed,
            retention_seconds=one.worth,
            reside_time=self._wire.time_if_any(one.resides_until),
        )

    def _decision(self, one: Decision) -> pb.Decision:
        return pb.Decision(
            time=self._wire.time(one.at),
            generation=one.server_id.generation,
            role=ROLES[one.role],
            before=_state(one.before),
            after=_state(one.after),
            why=_text(one.why),
            event=one.event,
            choice=None if one.choice is None else _choice(one.choice),
        )


def _add_estimate(message: pb.DescribeResponse, described: Description) -> None:
    estimate = described.estimate
    if estimate is None:
        return
    message.expected_bytes = estimate.expected
    message.expected_by = EXPECTATIONS[estimate.source]
    message.disk_bytes = estimate.disk_bytes
    if estimate.on_disk is not None:
        message.on_disk = estimate.on_disk
    if estimate.load_s is not None:
        message.usual_load.CopyFrom(duration(estimate.load_s))


def _position(described: Description) -> int:
    """Return the place of the model's current server among those that may be stopped, or 0."""
    current = next((one.id for one in described.servers if one.is_current), None)
    ids = [one.server_id for one in described.order]
    return ids.index(current) + 1 if current in ids else 0


def _choice(choice: Choice) -> pb.Choice:
    message = pb.Choice(
        needed_bytes=choice.needed,
        reserved_bytes=choice.reserved,
        chosen=map(_weighed, choice.chosen[:MAX_WEIGHED]),
        passed_over=map(
            _weighed, sorted(choice.passed_over, key=lambda one: one.worth)[:MAX_WEIGHED]
        ),
    )
    if choice.budget != FOREVER:
        message.budget_bytes = int(choice.budget)
    if choice.available != FOREVER:
        # The reserve of the machine may be larger than what is available.
        message.available_bytes = max(int(choice.available), 0)
    return message


def _weighed(one: Weighed) -> pb.EvictionCandidate:
    return pb.EvictionCandidate(
        model=one.server_id.model,
        generation=one.server_id.generation,
        busy=one.preemption_class is PreemptionClass.BUSY,
        freed_bytes=one.freed,
        retention_seconds=one.worth,
    )


def _state(phase: Phase | None) -> "pb.ServerState.ValueType":
    return pb.SERVER_STATE_UNSPECIFIED if phase is None else STATES[phase]


def _text(text: str) -> str:
    return sendable(text[:LONGEST_TEXT])
