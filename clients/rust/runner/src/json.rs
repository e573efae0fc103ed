//! The client's values as the protocol has them.

use std::time::SystemTime;

use pool_service_client::{
    Code, Error, Event, EvictedServer, Exit, ExitCause, Expectation, Found, LogPart, Model, Pinned,
    PromptCache, Reason, Reloaded, Server, ServerRole, ServerState, Totals, Violation,
};
use serde_json::{Value, json};

pub(crate) fn server(server: &Server) -> Value {
    json!({
        "model": server.model,
        "runtime_model": server.runtime_model,
        "state": state(server.state),
        "generation": server.generation,
        "role": role(server.role),
        "endpoint": server.endpoint,
        "base_url": server.base_url(),
        "served_model_name": server.served_model_name,
        "embedding_model_name": server.embedding_model_name,
        "pid": server.pid,
        "create_time": time(server.create_time),
        "start_time": time(server.start_time),
        "ready_time": time(server.ready_time),
        "last_use_time": time(server.last_use_time),
        "expire_time": time(server.expire_time),
        "expected_ready_time": time(server.expected_ready_time),
        "detail": server.detail,
        "last_exit": server.last_exit.as_ref().map(exit),
        "log_path": server.log_path,
        "queue_position": server.queue_position,
        "progress": server.progress,
        "expected_bytes": server.expected_bytes,
        "expected_by": expectation(server.expected_by),
        "footprint_bytes": server.footprint_bytes,
        "peak_bytes": server.peak_bytes,
        "holds": server.holds,
        "pinned": server.pinned,
        "outdated": server.outdated,
        "prompt_cache": server.prompt_cache.as_ref().map(prompt_cache),
        "host": server.host,
        "api_key": server.api_key.expose(),
    })
}

fn prompt_cache(cache: &PromptCache) -> Value {
    json!({
        "disk_bytes": cache.disk_bytes,
        "tokens": cache.tokens,
        "reused_tokens": cache.reused_tokens,
        "max_bytes": cache.max_bytes,
    })
}

pub(crate) fn exit(exit: &Exit) -> Value {
    json!({
        "generation": exit.generation,
        "code": exit.code,
        "signal": exit.signal,
        "cause": cause(exit.cause),
        "message": exit.message,
        "last_lines": exit.last_lines,
        "time": time(exit.time),
    })
}

pub(crate) fn found(found: &Found) -> Value {
    json!({"server": found.server.as_ref().map(server), "answers": found.answers})
}

pub(crate) fn evicted(evicted: &EvictedServer) -> Value {
    json!({"server": server(&evicted.server), "killed": evicted.killed})
}

pub(crate) fn totals(totals: &Totals) -> Value {
    json!({
        "servers": totals.servers,
        "queued": totals.queued,
        "starting": totals.starting,
        "ready": totals.ready,
        "stopping": totals.stopping,
        "failed": totals.failed,
        "waiting_calls": totals.waiting_calls,
        "backing_off": totals.backing_off,
        "memory_budget_bytes": totals.memory_budget_bytes,
        "memory_reserved_bytes": totals.memory_reserved_bytes,
        "memory_available_bytes": totals.memory_available_bytes,
        "memory_total_bytes": totals.memory_total_bytes,
        "memory_pressured": totals.memory_pressured,
        "standbys": totals.standbys,
    })
}

pub(crate) fn model(model: &Model) -> Value {
    json!({
        "model": model.model,
        "aliases": model.aliases,
        "runtime_model": model.runtime_model,
        "runtime": model.runtime,
        "groups": model.groups,
        "pinned": model.pinned,
        "preload": model.preload,
        "expected_bytes": model.expected_bytes,
        "expected_by": expectation(model.expected_by),
        "on_disk": model.on_disk,
        "problem": model.problem,
        "disk_bytes": model.disk_bytes,
        "state": model.state.map(state),
        "listed": model.listed,
    })
}

pub(crate) fn pinned(pinned: Pinned) -> Value {
    json!({
        "pinned": pinned.pinned,
        "changed": pinned.changed,
        "configured": pinned.configured,
    })
}

pub(crate) fn reloaded(reloaded: &Reloaded) -> Value {
    json!({
        "replaced": reloaded.replaced,
        "updated": reloaded.updated,
        "removed": reloaded.removed,
        "restart_needed": reloaded.restart_needed,
        "problems": reloaded.problems,
    })
}

pub(crate) fn log_part(part: &LogPart) -> Value {
    match part {
        LogPart::Lines { generation, lines, missed_bytes, cursor, .. } => json!({
            "kind": "lines",
            "generation": generation,
            "lines": lines,
            "missed_bytes": missed_bytes,
            "cursor": cursor,
        }),
        LogPart::Ended { generation, exit: end, cursor, .. } => json!({
            "kind": "ended",
            "generation": generation,
            "exit": end.as_ref().map(exit),
            "cursor": cursor,
        }),
        unknown => json!({"kind": format!("{unknown:?}")}),
    }
}

pub(crate) fn event(event: &Event) -> Value {
    match event {
        Event::Changed { revision, server: it } => {
            json!({"kind": "changed", "revision": revision, "server": server(it)})
        }
        Event::Removed { revision, server: it } => {
            json!({"kind": "removed", "revision": revision, "server": server(it)})
        }
        Event::Synced { revision } => {
            json!({"kind": "synced", "revision": revision, "server": null})
        }
        unknown => json!({"kind": format!("{unknown:?}"), "revision": null, "server": null}),
    }
}

pub(crate) fn error(error: &Error) -> Value {
    json!({
        "kind": kind(error.reason()),
        "code": code(error.code()),
        "reason": error.reason_name(),
        "message": error.message(),
        "retry_after": error.retry_after().map(|delay| delay.as_secs_f64()),
        "metadata": error.metadata(),
        "last_lines": error.last_lines(),
        "violations": error.violations().iter().map(violation).collect::<Vec<_>>(),
        "request_id": error.request_id(),
    })
}

fn violation(violation: &Violation) -> Value {
    json!({
        "subject": violation.subject,
        "description": violation.description,
        "kind": violation.kind,
    })
}

/// The error of a command that was given up: whoever drops a future is told nothing by it.
pub(crate) fn cancelled() -> Value {
    without_error("Cancelled", "CANCELLED", "given up")
}

/// The error of a command that cannot be carried out.
pub(crate) fn refused(why: &str) -> Value {
    without_error("PoolError", "UNKNOWN", why)
}

fn without_error(kind: &str, code: &str, message: &str) -> Value {
    json!({
        "kind": kind, "code": code, "reason": "", "message": message, "retry_after": null,
        "metadata": {}, "last_lines": [], "violations": [], "request_id": "",
    })
}

fn kind(reason: Reason) -> String {
    match reason {
        Reason::Other => "PoolError".to_owned(),
        known => format!("{known:?}"),
    }
}

fn code(code: Code) -> String {
    in_capitals(&format!("{code:?}"))
}

pub(crate) fn state(state: ServerState) -> Value {
    match state {
        ServerState::Unknown(number) => json!(number),
        known => json!(in_capitals(&format!("{known:?}"))),
    }
}

pub(crate) fn role(role: ServerRole) -> Value {
    match role {
        ServerRole::Unknown(number) => json!(number),
        known => json!(in_capitals(&format!("{known:?}"))),
    }
}

fn cause(cause: ExitCause) -> Value {
    match cause {
        ExitCause::Unknown(number) => json!(number),
        known => json!(in_capitals(&format!("{known:?}"))),
    }
}

pub(crate) fn expectation(expectation: Expectation) -> Value {
    match expectation {
        Expectation::Unknown(number) => json!(number),
        known => json!(in_capitals(&format!("{known:?}"))),
    }
}

/// `BackingOff` as `BACKING_OFF`.
pub(crate) fn in_capitals(words: &str) -> String {
    let mut capitals = String::new();
    for letter in words.chars() {
        if letter.is_uppercase() && !capitals.is_empty() {
            capitals.push('_');
        }
        capitals.push(letter.to_ascii_uppercase());
    }
    capitals
}

pub(crate) fn time(time: Option<SystemTime>) -> Value {
    match time.map(|at| at.duration_since(SystemTime::UNIX_EPOCH)) {
        None => Value::Null,
        Some(Ok(since)) => json!(since.as_secs_f64()),
        Some(Err(before)) => json!(-before.duration().as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::{code, kind, state};
    use pool_service_client::{Code, Reason, ServerState};
    use serde_json::json;

    #[test]
    fn names_are_those_of_the_wire() {
        assert_eq!(state(ServerState::BackingOff), json!("BACKING_OFF"));
        assert_eq!(state(ServerState::Unknown(17)), json!(17));
        assert_eq!(code(Code::FailedPrecondition), "FAILED_PRECONDITION");
    }

    #[test]
    fn a_reason_is_its_kind() {
        assert_eq!(kind(Reason::ModelRejected), "ModelRejected");
        assert_eq!(kind(Reason::Other), "PoolError");
    }
}
