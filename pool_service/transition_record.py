"""The event of a server that has changed its phase; `event_records.py` says what it holds."""

from pool_service.core.commands import Publish
from pool_service.core.server import Exit, Phase
from pool_service.event_records import EventRecord, without_empty


def transition(change: Publish) -> EventRecord:
    """Return the event of a server that has changed its phase, or was removed."""
    server, preemptor = change.server, change.preemptor
    record = {
        "kind": "transition",
        "model": server.model,
        "generation": server.generation,
        "role": server.role.name,
        "before": change.before.name if change.before else None,
        "after": None if change.removed else server.phase.name,
    }
    details: EventRecord = {
        "before_role": change.before_role.name if change.before_role else "",
        "pid": server.identity.pid if server.identity else None,
        "why": server.detail,
        "cause": server.stop_cause.name if server.stop_cause else "",
        "preemptor": preemptor.model if preemptor else "",
        "needed_bytes": preemptor.needed if preemptor else 0,
        "expected_bytes": server.expected,
        "peak_bytes": server.peak,
    }
    if server.phase is Phase.CLEANING_UP and not change.removed and server.last_exit is not None:
        details["exit"] = _exit(server.last_exit)
    return record | without_empty(details)


def _exit(end: Exit) -> EventRecord:
    known: EventRecord = {
        "code": end.report.code,
        "signal": end.report.signal,
        "message": end.report.message,
    }
    return {"cause": end.cause.name} | {key: known[key] for key in known if known[key] is not None}
