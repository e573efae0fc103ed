"""Conversion of the message of Describe to the client's values."""

from datetime import datetime

from google.protobuf.message import Message

from pool_service_client import convert
from pool_service_client.description import (
    Choice,
    Decision,
    Description,
    EvictionCandidate,
    Holder,
    Run,
    RunOrigin,
    Setting,
    WaitingCall,
)
from pool_service_client.types import Expectation, ServerRole, ServerState
from pool_service_client.v1 import pool_service_pb2 as pb


def description(message: pb.DescribeResponse) -> Description:
    """Return the description."""
    return Description(
        model=message.model,
        aliases=tuple(message.aliases),
        listed=message.listed,
        settings=tuple(
            Setting(one.key, one.value, one.source, one.running) for one in message.settings
        ),
        servers=tuple(map(convert.server, message.servers)),
        expected_bytes=message.expected_bytes,
        expected_by=Expectation(message.expected_by),
        on_disk=message.on_disk if message.HasField("on_disk") else None,
        disk_bytes=message.disk_bytes,
        usual_load=(message.usual_load.ToTimedelta() if message.HasField("usual_load") else None),
        problem=message.problem,
        runs=tuple(map(_run, message.runs)),
        last_exit=convert.exit_of(message.last_exit) if message.HasField("last_exit") else None,
        holders=tuple(Holder(one.label, _time(one, "since")) for one in message.holders),
        holds=message.holds,
        waiting=tuple(
            WaitingCall(_time(one, "since"), one.hold, one.holder, one.own)
            for one in message.waiting
        ),
        waiting_calls=message.waiting_calls,
        queue_time=_time(message, "queue_time"),
        next_to_go=tuple(map(_candidate, message.next_to_go)),
        eviction_position=message.eviction_position,
        eviction_candidates=message.eviction_candidates,
        kept_because=message.kept_because,
        crash_times=_times(message),
        crash_limit=message.crash_limit,
        crash_window=message.crash_window.ToTimedelta(),
        retry_time=_time(message, "retry_time"),
        failure_reason=message.failure_reason,
        failure_message=message.failure_message,
        decisions=tuple(map(_decision, message.decisions)),
        message=message,
    )


def _run(message: pb.Run) -> Run:
    return Run(
        generation=message.generation,
        origin=RunOrigin(message.origin),
        create_time=_time(message, "create_time"),
        admit_time=_time(message, "admit_time"),
        start_time=_time(message, "start_time"),
        ready_time=_time(message, "ready_time"),
        stop_time=_time(message, "stop_time"),
        end_time=_time(message, "end_time"),
        exit=convert.exit_of(message.exit) if message.HasField("exit") else None,
        peak_bytes=message.peak_bytes,
        load=message.load.ToTimedelta() if message.HasField("load") else None,
    )


def _candidate(message: pb.EvictionCandidate) -> EvictionCandidate:
    return EvictionCandidate(
        model=message.model,
        generation=message.generation,
        busy=message.busy,
        freed_bytes=message.freed_bytes,
        retention_seconds=message.retention_seconds,
        reside_time=_time(message, "reside_time"),
    )


def _decision(message: pb.Decision) -> Decision:
    return Decision(
        time=_time(message, "time"),
        generation=message.generation,
        role=ServerRole(message.role),
        before=ServerState(message.before),
        after=ServerState(message.after),
        why=message.why,
        event=message.event,
        choice=_choice(message.choice) if message.HasField("choice") else None,
    )


def _choice(message: pb.Choice) -> Choice:
    return Choice(
        needed_bytes=message.needed_bytes,
        budget_bytes=message.budget_bytes if message.HasField("budget_bytes") else None,
        reserved_bytes=message.reserved_bytes,
        available_bytes=message.available_bytes if message.HasField("available_bytes") else None,
        chosen=tuple(map(_candidate, message.chosen)),
        passed_over=tuple(map(_candidate, message.passed_over)),
    )


def _time(message: Message, name: str) -> datetime | None:
    """Return the time in a field of a message; None if it is not set."""
    return convert.time_of(getattr(message, name)) if message.HasField(name) else None


def _times(message: pb.DescribeResponse) -> tuple[datetime, ...]:
    times = map(convert.time_of, message.crash_times)
    return tuple(at for at in times if at is not None)
