"""The events that are kept on disk, as values that JSON has. Empty values are left out.

Every event has a kind; the writer adds the time (`ts`). Readers must accept keys and kinds that
they do not know.

1. transition (made in `transition_record.py`): model, generation, role, before_role (if it was
   another one), before and after (phases; null: not in the pool), pid, why, cause (why it is
   stopped), preemptor and needed_bytes (the model that it is stopped for), exit (cause, code,
   signal, message: how its process ended), expected_bytes, peak_bytes.
2. call: method, model, alias (the name that the caller used for it), target ("all" or "idle", of
   an eviction), models (those whose servers it evicted, or a reload affected; the first
   MAX_MODELS), peer, principal, code ("OK" or that of the error), reason, why, repeated (calls
   since the first one like it, of which this is the last, and whose time it has).
3. service: what ("started" or "stopped"), pid, why (where it listens; what it leaves).
4. lost: lines (events that could not be written before this one).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    return {"kind": "call", "method": called.method, "code": code} | without_empty(details)


def service(what: str, pid: int, why: str) -> EventRecord:
    """Return the event of the start or the end of a service; why: more of it, in words."""
    return {"kind": "service", "what": what, "pid": pid} | without_empty({"why": why})


def without_empty(details: Mapping[str, object]) -> EventRecord:
    """Return the details of an event that have a value."""
    return {key: value for key, value in details.items() if value not in ("", 0, None, [])}
