"""The events that are kept on disk, as values that JSON has. Empty values are left out.

Every event has a kind; the writer adds the time (`ts`). Readers must accept keys and kinds that
they do not know.

1. transition: model, generation, role, before_role (if it was another one), before and after
   (phases; null: not in the pool), pid, why, cause (why it is stopped), preemptor and needed_bytes
   (the model that it is stopped for), exit (cause, code, signal, message: how its process ended),
   expected_bytes, peak_bytes.
2. call: method, model, alias (the name that the caller used for it), target ("all" or "idle", of
   an eviction), models (those whose servers it evicted, or a reload affected; the first
   MAX_MODELS), peer, principal, code ("OK" or that of the error), reason, why, repeated (calls
   since the first one like it, of which this is the last, and whose time it has).
3. service: what ("started" or "stopped"), pid, why (where it listens; what it leaves).
4. lost: lines (events that could not be written before this one).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pool_service.core.commands import Publish
from pool_service.core.server import Exit, Phase

EventRecord = dict[str, object]

MAX_MODELS = 200
"""Models that the event of a call names, as an event is one line of a bounded file."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call to be kept: its method, the model or target it names, and the caller.

    peer: the caller's address as gRPC tells it; principal: who it is, "" if not known.
    alias: the name that the caller used for the model, "" if it is the model's own.
    target: the servers to evict, if the call names no model: "all" or "idle".
    """

    method: str
    model: str
    peer: str
    principal: str = ""
    alias: str = ""
    target: str = ""


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
    return record | _set(details)


def call(
    called: Call,
    code: str = "OK",
    reason: str = "",
    why: str = "",
    models: Iterable[str] = (),
) -> EventRecord:
    """Return the event of a call that changed something, or failed with a code and a reason.

    models: those whose servers it affected.
    """
    details: EventRecord = {
        "model": called.model,
        "alias": called.alias,
        "target": called.target,
        "models": list(dict.fromkeys(models))[:MAX_MODELS],
        "peer": called.peer,
        "principal": called.principal,
        "reason": reason,
        "why": why,
    }
    return {"kind": "call", "method": called.method, "code": code} | _set(details)


def service(what: str, pid: int, why: str) -> EventRecord:
    """Return the event of the start or the end of a service; why: more of it, in words."""
    return {"kind": "service", "what": what, "pid": pid} | _set({"why": why})


def _exit(end: Exit) -> EventRecord:
    known: EventRecord = {
        "code": end.report.code,
        "signal": end.report.signal,
        "message": end.report.message,
    }
    return {"cause": end.cause.name} | {key: known[key] for key in known if known[key] is not None}


def _set(details: Mapping[str, object]) -> EventRecord:
    return {key: value for key, value in details.items() if value not in ("", 0, None, [])}
