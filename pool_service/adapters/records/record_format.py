"""The format of a record: JSON, by an explicit mapping that later versions can read too. Pure.

    {"version": 1, "boot_id": …, "model": …, "server": {…}}    of a server
    {"version": 1, "boot_id": …, "model": …, "past": {…}}      of a model without a server

Enums are written by name, FOREVER as "forever"; launch plans by `plan_format.py`. Of the settings
only those are written that a running process depends on; the others come from the configuration of
the next service.

Members keep their names in the files when an attribute is renamed, so that other versions can read
them: "past" holds a LastRun, "given" successor_generation, "recipe" config_hash. "serves" has the
model of a server that is not its model's current one; in such a record "model" is the record's key.

Pydantic's models are not used: the guard reads records too, mostly when memory is short. With them
it took 44 MiB instead of 33, and writing took 1.7 times as long, for a fifth less code.
"""

import json
from dataclasses import asdict, dataclass, fields
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from pool_service.adapters.process.identity import MAX_PID
from pool_service.adapters.records.plan_format import from_plan, to_plan
from pool_service.adapters.records.record_members import (
    FOREVER_WORD,
    BadRecord,
    Members,
    to_boolean,
    to_count,
    to_integer,
    to_list,
    to_moment,
    to_number,
    to_text,
)
from pool_service.adapters.system.own_files import parse_json
from pool_service.core.errors import (
    CrashLoop,
    ModelRejected,
    PoolError,
    RuntimeUnavailable,
    StartFailed,
    StartTimeout,
)
from pool_service.core.server import Cause, Exit, LastRun, Phase, Role, Server, StopSignal
from pool_service.core.types import (
    FOREVER,
    Diagnosis,
    EstimateSource,
    ExitReport,
    Identity,
    Settings,
)

VERSION = 1

# The errors in records, by their reasons; any other error is read back as a PoolError.
_ERRORS: dict[str, type[PoolError]] = {
    kind.REASON: kind
    for kind in (
        PoolError,
        CrashLoop,
        ModelRejected,
        RuntimeUnavailable,
        StartFailed,
        StartTimeout,
    )
}


Entry = Server | LastRun
"""The content of a record: a server, or the last run of a model without one."""


@dataclass(frozen=True, slots=True)
class Record:
    """The content of one file, and the boot of the machine on which it was written."""

    boot_id: str
    entry: Entry


def encode(record: Record) -> bytes:
    """Return the bytes of a record's file."""
    entry = record.entry
    head = {"version": VERSION, "boot_id": record.boot_id, "model": record_key(entry)}
    body = (
        {"server": _from_server(entry)}
        if isinstance(entry, Server)
        else {"past": _from_past(entry)}
    )
    return json.dumps(head | body, allow_nan=False, separators=(",", ":")).encode()


def decode(content: bytes) -> Record:
    """Return the record in the bytes of a file. Raises BadRecord, and no other error."""
    try:
        document = parse_json(content.decode())
    except ValueError as error:
        raise BadRecord("it is no JSON: truncated, or garbage") from error
    top = Members(document)
    version = top.integer("version")
    if version != VERSION:
        raise BadRecord(f"it has version {version}; this service reads version {VERSION}")
    model = top.text("model")
    server = top.optional("server", lambda value: _to_server(model, value))
    entry = server or top.required("past", lambda value: _to_past(model, value))
    return Record(top.text("boot_id"), entry)


def record_key(entry: Entry) -> str:
    """Return the key of a record: the model, with the generation if the server is not current."""
    if isinstance(entry, Server) and not entry.is_current:
        return f"{entry.model} (generation {entry.generation})"
    return entry.model


# --- to JSON ------------------------------------------------------------------------------


def _from_server(server: Server) -> dict[str, Any]:
    return {
        "settings": _from_settings(server.settings),
        "phase": server.phase.name,
        "generation": server.generation,
        "created_at": _from_number(server.created_at),
        "last_used_at": _from_number(server.last_used_at),
        "keep_alive": _from_number(server.keep_alive),
        "detail": server.detail,
        "plan": from_plan(server.plan),
        "identity": _from_identity(server.identity),
        "log_path": server.log_path,
        "endpoint": server.endpoint,
        "spawned_at": _from_number(server.spawned_at),
        "ready_at": _from_number(server.ready_at),
        "suspended_s": server.suspended_s,
        "stop_cause": server.stop_cause and server.stop_cause.name,
        "stop_signal": server.stop_signal and server.stop_signal.name,
        "step_deadline": _from_number(server.step_deadline),
        "last_exit": _from_exit(server.last_exit),
        "crashes": [_from_number(at) for at in server.crashes],
        "retry_at": _from_number(server.retry_at),
        "failure": _from_error(server.failure),
        "spared_until": _from_number(server.spared_until),
        "drain_by": _from_number(server.drain_by),
        "expected": server.expected,
        "expected_by": server.expected_by.name,
        "usual_load": _from_number(server.usual_load_s),
        "peak": server.peak,
        "serves": "" if server.is_current else server.model,
        "given": server.successor_generation,
        "account": server.account,
    }


def _from_past(past: LastRun) -> dict[str, Any]:
    return {
        "generation": past.generation,
        "last_exit": _from_exit(past.last_exit),
        "given": past.successor_generation,
    }


def _from_settings(settings: Settings) -> dict[str, Any]:
    return {
        "runtime_model": settings.runtime_model,
        "keep_alive": _from_number(settings.keep_alive),
        "grace_period": _from_number(settings.grace_period),
        "start_timeout": _from_number(settings.start_timeout),
        "stall_timeout": _from_number(settings.stall_timeout),
        "probe_timeout": _from_number(settings.probe_timeout),
        "drain_timeout": _from_number(settings.drain_timeout),
        "stop_timeout": _from_number(settings.stop_timeout),
        "asked": settings.asked,
        "recipe": settings.config_hash,
    }


def _from_identity(identity: Identity | None) -> dict[str, Any] | None:
    return None if identity is None else asdict(identity)


def _from_exit(end: Exit | None) -> dict[str, Any] | None:
    if end is None:
        return None
    return {
        "generation": end.generation,
        "cause": end.cause.name,
        "at": _from_number(end.at),
        "code": end.report.code,
        "signal": end.report.signal,
        "diagnosis": end.report.diagnosis.name,
        "message": end.report.message,
        "last_lines": end.report.last_lines,
    }


def _from_error(error: PoolError | None) -> dict[str, Any] | None:
    if error is None:
        return None
    reason = error.REASON if type(error) in _ERRORS.values() else PoolError.REASON
    members: dict[str, Any] = {"reason": reason, "message": error.message, "model": error.model}
    if isinstance(error, CrashLoop):
        members["retry_after"] = _from_number(error.retry_after)
    return members | {"last_lines": getattr(error, "last_lines", ())}


def _from_number(value: float | None) -> float | str | None:
    return FOREVER_WORD if value == FOREVER else value


# --- from JSON ----------------------------------------------------------------------------


def _to_server(key: str, value: object) -> Server:
    of = Members(value)
    serves = of.optional("serves", to_text) or ""
    ready_at = of.optional("ready_at", to_moment)
    # A successor is current once it is READY, so one that was READY before has been superseded.
    other_role = Role.SUCCESSOR if ready_at is None else Role.SUPERSEDED
    return Server(
        model=serves or key,
        role=other_role if serves else Role.CURRENT,
        settings=of.required("settings", _to_settings),
        phase=of.enum("phase", Phase),
        generation=of.count("generation"),
        created_at=of.moment("created_at"),
        last_used_at=of.moment("last_used_at"),
        keep_alive=of.seconds("keep_alive"),
        detail=of.text("detail"),
        plan=of.optional("plan", to_plan),
        identity=of.optional("identity", _to_identity),
        log_path=of.text("log_path"),
        endpoint=of.required("endpoint", _to_endpoint),
        spawned_at=of.optional("spawned_at", to_moment),
        ready_at=ready_at,
        suspended_s=of.elapsed("suspended_s", missing=0.0),
        stop_cause=of.optional("stop_cause", lambda name: Cause[to_text(name)]),
        stop_signal=of.optional("stop_signal", lambda name: StopSignal[to_text(name)]),
        step_deadline=of.number("step_deadline"),
        last_exit=of.optional("last_exit", _to_exit),
        crashes=of.required("crashes", lambda times: tuple(map(to_number, to_list(times)))),
        retry_at=of.number("retry_at"),
        failure=of.optional("failure", _to_error),
        spared_until=of.number("spared_until"),
        drain_by=of.optional("drain_by", to_number),
        expected=of.optional("expected", to_count) or 0,
        expected_by=of.optional("expected_by", lambda name: EstimateSource[to_text(name)])
        or EstimateSource.UNKNOWN,
        usual_load_s=of.optional("usual_load", to_number),
        peak=of.optional("peak", to_count) or 0,
        successor_generation=of.optional("given", to_count) or 0,
        account=of.optional("account", to_text) or "",
    )


def _to_past(model: str, value: object) -> LastRun:
    of = Members(value)
    return LastRun(
        model,
        of.count("generation"),
        of.optional("last_exit", _to_exit),
        of.optional("given", to_count) or 0,
    )


def _to_settings(value: object) -> Settings:
    of = Members(value)
    return Settings(
        runtime_model=of.text("runtime_model"),
        keep_alive=of.seconds("keep_alive"),
        grace_period=of.seconds("grace_period"),
        start_timeout=of.seconds("start_timeout"),
        stall_timeout=of.seconds("stall_timeout", Settings("").stall_timeout),
        probe_timeout=of.seconds("probe_timeout"),
        drain_timeout=of.seconds("drain_timeout"),
        stop_timeout=of.seconds("stop_timeout"),
        asked=of.optional("asked", to_boolean) or False,
        config_hash=of.optional("recipe", to_text) or "",
    )


def _to_identity(value: object) -> Identity:
    of = Members(value)
    pid = of.integer("pid")
    if not 1 < pid <= MAX_PID:
        # kill() takes 0 and -1 for groups of processes; 1 is init.
        raise BadRecord("its 'pid' is no server's")
    return Identity(pid, of.integer("start_time"), of.text("boot_id"))


def _to_exit(value: object) -> Exit:
    of = Members(value)
    report = ExitReport(
        code=of.optional("code", to_integer),
        signal=of.optional("signal", to_integer),
        diagnosis=of.enum("diagnosis", Diagnosis),
        message=of.text("message"),
        last_lines=of.texts("last_lines"),
    )
    return Exit(of.count("generation"), of.enum("cause", Cause), report, of.moment("at"))


def _to_error(value: object) -> PoolError:
    of = Members(value)
    kind = of.required("reason", lambda reason: _ERRORS[to_text(reason)])
    more: dict[str, Any] = {}
    names = {field.name for field in fields(kind)}
    if "last_lines" in names:
        more["last_lines"] = of.texts("last_lines")
    if "retry_after" in names:
        more["retry_after"] = of.number("retry_after")
    return kind(of.text("message"), model=of.text("model"), **more)


def _to_endpoint(value: object) -> str:
    """Return a base URL with an IP address, "" if empty. Raises TypeError, BadRecord."""
    endpoint = to_text(value)
    try:
        url = urlsplit(endpoint)
        is_base_url = url.scheme == "http" and url.port and bool(ip_address(url.hostname or ""))
    except ValueError:
        is_base_url = False
    if endpoint and not is_base_url:
        raise BadRecord("its 'endpoint' is no URL of a server")
    return endpoint
