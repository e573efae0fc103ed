"""Values and errors of the client as the protocol's JSON; made of the client's own types."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from google.protobuf.message import Message

from pool_service_client import (
    Event,
    InternalError,
    LogEnd,
    LogLines,
    PoolError,
    Server,
    ServerChanged,
    ServerRemoved,
)

Json = dict[str, Any]

# The one class whose name is not that of its reason.
_KINDS: Mapping[type[PoolError], str] = {InternalError: "Internal"}
_EVENTS: Mapping[type[Event], str] = {ServerChanged: "changed", ServerRemoved: "removed"}


def value(one: object) -> Any:
    """Of a dataclass, or of what one holds."""
    match one:
        case IntEnum():
            return int(one) if one.name.startswith("UNKNOWN_") else one.name
        case datetime():
            return one.timestamp()
        case timedelta():
            return one.total_seconds()
        case tuple() | list():
            return [value(each) for each in one]
        case _ if dataclasses.is_dataclass(one):
            return _fields(one)
        case _:
            return one


def _fields(one: Any) -> Json:
    """Of a dataclass, but for the message that it was made from."""
    names = (field.name for field in dataclasses.fields(one))
    fields = {name: getattr(one, name) for name in names}
    if isinstance(one, Server):
        fields["base_url"] = one.base_url
    return {name: value(each) for name, each in fields.items() if not isinstance(each, Message)}


def event(one: Event) -> Json:
    """Of a watch."""
    kind = _EVENTS.get(type(one), "synced")
    return {"kind": kind, "revision": one.revision, "server": value(getattr(one, "server", None))}


def log_part(one: LogLines | LogEnd) -> Json:
    """Of a log that is read."""
    return {"kind": "lines" if isinstance(one, LogLines) else "ended", **value(one)}


def error(failure: PoolError) -> Json:
    """All that a caller can see of it."""
    return {
        "kind": _KINDS.get(type(failure), type(failure).__name__),
        "code": failure.code.name,
        "reason": failure.reason,
        "message": str(failure),
        "retry_after": failure.retry_after,
        "metadata": dict(failure.metadata),
        "last_lines": list(failure.last_lines),
        "violations": value(failure.violations),
        "request_id": failure.request_id,
    }


def cancelled() -> Json:
    """What was given up as the language does it, with no error of the client's."""
    return {
        **error(PoolError("given up by its caller")),
        "kind": "Cancelled",
        "code": "CANCELLED",
    }


def refused(failure: ValueError) -> Json:
    """Return the error of a client that could not be made, as an option is not valid."""
    return {**error(PoolError(str(failure))), "code": "INVALID_ARGUMENT"}
